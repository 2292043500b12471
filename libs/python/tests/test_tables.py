"""Tables in C are those of the generated codec, byte for byte; what that refuses, they refuse."""

import os
import random

import pytest

from maniple._core import frames, twin, wire

fast = twin.fast
pytestmark = pytest.mark.skipif(fast is None, reason="the extension is not used: MANIPLE_PURE is set, or it is not built here")
RANGES = {"B": (0, 2**8 - 1), "H": (0, 2**16 - 1), "I": (0, 2**32 - 1), "i": (-(2**31), 2**31 - 1), "q": (-(2**63), 2**63 - 1), "Q": (0, 2**64 - 1)}
TEXTS = ("", "a", "h\u00e9\udcff", "x" * 300)


def value_of(field, r, depth):
    if field.kind == "number":
        return r.random() < 0.5 if field.of == "?" else r.choice([*RANGES[field.of], r.randint(*RANGES[field.of])])
    return {
        "struct": lambda: field.make()._make([r.getrandbits(32) for _ in field.tuple._fields]),
        "string": lambda: r.choice(TEXTS),
        "bytes": lambda: os.urandom(r.randint(0, 50)),
        "numbers": lambda: [r.getrandbits(32) for _ in range(r.randint(0, 5))],
        "strings": lambda: [r.choice(TEXTS) for _ in range(r.randint(0, 5))],
        "table": lambda: table_of(field.of, r, depth + 1),
        "tables": lambda: [table_of(field.of, r, depth + 1) for _ in range(r.randint(0, 3))],
    }[field.kind]()


def table_of(name, r, depth=0):
    fields = frames._fields(name) if depth < 5 else ()
    return {f.name: value_of(f, r, depth) if r.random() < 0.9 else None for f in fields if r.random() < 0.7}


def damaged(body, r):
    made = bytearray(body)
    for _ in range(r.randint(1, 3)):
        at = r.randrange(len(made))
        made[at] = r.choice([0, 255, made[at] ^ 1 << r.randrange(8), r.randrange(256)])
    return bytes(made[: r.randint(0, len(made))] if r.random() < 0.2 else made)


def slowly(name, body):
    try:
        return frames.unpack(name, body)
    except frames.WireError:
        return None


@pytest.mark.parametrize("seed", range(20))
def test_tables_are_the_same_in_c(seed):
    r, refused = random.Random(seed), 0
    for name in frames.TABLES:
        value = table_of(name, r)
        body = frames.pack(name, value)
        assert fast.pack(name, value) == body
        assert repr(fast.unpack(name, body)) == repr(frames.unpack(name, body))
        for _ in range(5):
            bad = damaged(body, r)
            assert repr(fast.unpack(name, bad)) == repr(slowly(name, bad)), (name, bad.hex())
            refused += slowly(name, bad) is None
    assert refused > 100


def test_nothing_counts_twice_in_c_either():
    body = bytearray(frames.pack("Bundle", {"labels": [{"key": "y" * 5}] * 3 + [{"key": "x" * 400}]}))
    large, u32 = body.index(b"x" * 400) - 4, frames._U32
    for place in range(0, large, 4):  # all keys are the last one's bytes, which the body has once
        to = place + u32.unpack_from(body, place)[0]
        if body[to : to + 9] == u32.pack(5) + b"y" * 5:
            u32.pack_into(body, place, large - place)
    assert slowly("Bundle", body) is None and fast.unpack("Bundle", bytes(body)) is None


@pytest.mark.parametrize(
    "name, value",
    [
        ("Shape", {"number": -1}), ("Shape", {"number": 2**32}), ("Shape", {"number": 1.5}), ("Shape", {"nobody": None}), ("Shape", []), ("Shape", {"labels": "text"}),
        ("Shape", {"labels": [1]}), ("Shape", {"group": (1, 2)}), ("Shape", {"group": (1, 2, 2**64)}), ("Shape", {"name": 5}), ("Shape", {"lent": 2}), ("Shape", {1: 2}),
        ("Attach", {"worker": 2**64}), ("Attach", {"worker": -1}), ("Function", {"hash": "text"}), ("Nobody", {}),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_python(name, value):
    assert fast.pack(name, value) is None
    if name != "Nobody" and value != {"lent": 2}:
        with pytest.raises(frames.WireError):
            wire.table(name, value)


def test_a_frame_that_c_can_not_write_is_written():
    lines = iter(["a", "b"])
    assert wire.table("Methods", {"function": True, "names": lines}) == wire.table("Methods", {"function": 1, "names": ["a", "b"]})
    assert wire.untable("Methods", wire.table("Methods", {"names": ("a",)})[wire.HEADER_SIZE :]) == {"function": 0, "names": ["a"]}
    with pytest.raises(wire.ProtocolError, match="Methods"):
        wire.untable("Methods", b"\xff" * 16)
