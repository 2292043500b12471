"""Values as bytes and back."""

import pickle
import struct

import pytest

from maniple._core import cbor, values, wire
from maniple._core.references import ObjectRef


def there_and_back(value):
    encoded = values.encode(value)
    return values.decode(encoded.format, encoded.payload, encoded.refs)


@pytest.mark.parametrize("value", [None, 1, "text", b"raw", b"", [1, {"a": (2, 3)}], {1, 2}, 3.5, bytearray(b"x"), ValueError("a")], ids=repr)
def test_round_trip(value):
    back = there_and_back(value)
    assert type(back) is type(value) and (back == value or repr(back) == repr(value))


def test_the_envelope_is_as_the_specification_has_it():
    payload = values.encode([pickle.PickleBuffer(bytearray(b"a" * 100)), pickle.PickleBuffer(b"b" * 3)]).payload
    meta, count = struct.unpack_from("<II", payload)
    lengths = struct.unpack_from("<2Q", payload, 8)
    assert (count, lengths) == (2, (100, 3))
    first = -(-(24 + meta) // 64) * 64
    assert payload[first : first + 100] == b"a" * 100 and not any(payload[24 + meta : first])
    second = -(-(first + 100) // 64) * 64
    assert payload[second:] == b"bbb"


def test_arrays_are_read_only_views():
    np = pytest.importorskip("numpy")
    array = np.arange(1000.0).reshape(10, 100)
    encoded = values.encode({"a": array, "b": [array[0]]})
    back = values.decode(encoded.format, encoded.payload)
    assert (back["a"] == array).all() and (back["b"][0] == array[0]).all()
    assert not back["a"].flags.owndata and back["a"].flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        back["a"][0, 0] = 1
    copy = back["a"].copy()
    copy[0, 0] = 1


def test_references_inside_are_numbered_once():
    a, b = ObjectRef(b"a" * 20), ObjectRef(b"b" * 20)
    encoded = values.encode([a, {"b": b, "a": a}, ObjectRef(b"a" * 20)])
    assert encoded.refs == [a, b]
    back = values.decode(encoded.format, encoded.payload, encoded.refs)
    assert back[0] is a and back[1]["b"] is b and back[2] == a


def test_references_are_not_pickled_by_hand():
    with pytest.raises(TypeError, match="by hand"):
        pickle.dumps(ObjectRef(b"a" * 20))


def test_what_only_cloudpickle_can_send(cloudpickle):
    n = 3
    assert there_and_back(lambda x: x + n)(4) == 7

    class Local:
        def __init__(self, ref):
            self.ref = ref

    ref = ObjectRef(b"a" * 20)
    assert there_and_back([Local(ref)])[0].ref is ref


def test_what_belongs_to_the_script_travels_by_value(monkeypatch, cloudpickle):
    import sys

    class Own:
        pass

    Own.__module__, Own.__qualname__ = "__main__", "Own"
    monkeypatch.setattr(sys.modules["__main__"], "Own", Own, raising=False)
    payload = values.encode(Own()).payload
    monkeypatch.delattr(sys.modules["__main__"], "Own")
    assert type(values.decode(wire.PICKLE, payload)).__name__ == "Own"


def test_what_can_not_be_sent_says_so():
    import threading

    with pytest.raises(TypeError, match="lock"):
        values.encode(threading.Lock())


def test_too_large(monkeypatch):
    monkeypatch.setattr(values, "MAX_VALUE", 100)
    with pytest.raises(ValueError, match="MiB"):
        values.encode(b"x" * 200).payload


@pytest.mark.parametrize("payload", [b"", b"\1\0\0\0", b"\xff" * 8, b"\4\0\0\0\1\0\0\0" + b"\xff" * 8 + b"meta", b"\0\0\0\0\xff\xff\xff\xff"])
def test_broken_envelopes(payload):
    with pytest.raises(wire.ProtocolError):
        values.decode(wire.PICKLE, payload)


def test_an_unknown_format():
    with pytest.raises(wire.ProtocolError, match="format 9"):
        values.decode(9, b"")


# Appendix A of RFC 8949.
@pytest.mark.parametrize("text,value", [
    ("00", 0), ("1903e8", 1000), ("1bffffffffffffffff", 2**64 - 1), ("c249010000000000000000", 2**64), ("3903e7", -1000), ("fb3ff199999999999a", 1.1),
    ("f93c00", 1.0), ("f4", False), ("f6", None), ("43010203", b"\1\2\3"), ("62c3bc", "\u00fc"), ("83010203", [1, 2, 3]), ("a201020304", {1: 2, 3: 4}),
    ("826161a161626163", ["a", {"b": "c"}]), ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]), ("7f657374726561646d696e67ff", "streaming"),
    ("bf6346756ef563416d7421ff", {"Fun": True, "Amt": -2}), ("c11a514b67b0", 1363896240),
])  # fmt: skip
def test_cbor(text, value):
    assert cbor.loads(bytes.fromhex(text)) == value


@pytest.mark.parametrize("text", ["", "1c", "19", "42", "6301", "82", "9f", "ff", "0000", "81" * 100, "9bffffffffffffffff", "a100", "a18000", "fc", "f8"])
def test_broken_cbor(text):
    with pytest.raises(wire.ProtocolError):
        cbor.loads(bytes.fromhex(text))


def test_random_bytes_are_values_or_errors():
    import random

    rng = random.Random(1)
    for _ in range(20_000):
        try:
            cbor.loads(rng.randbytes(rng.randrange(30)))
        except wire.ProtocolError:
            pass


def test_arrays_of_all_makes_come_back_as_they_were():
    np = pytest.importorskip("numpy")
    arrays = [
        np.arange(10), np.zeros((0, 3)), np.array(5.0), np.ones((3, 4), ">f8"), np.arange(12).reshape(3, 4).T, np.asfortranarray(np.ones((3, 4))),
        np.array(["a", "bc"]), np.array([1, None], dtype=object), np.zeros(3, dtype=[("x", "i4")]), np.array(["2020-01-01"], dtype="M8[D]"), np.arange(10)[::2],
        np.ones(3, bool), np.ma.array([1, 2]), np.ones((3, 4)), np.ones((4, 3)), np.ones(12), np.ones(12, "f4"),
        np.ones(2, np.dtype("i4", metadata={"unit": "m"})), np.ones(2, "i4"),
    ]  # fmt: skip
    fixed = np.arange(5)
    fixed.flags.writeable = False
    for array in arrays + [fixed, np.arange(5)]:
        for _ in range(2):
            encoded = values.encode(array)
            assert encoded.size == len(encoded.payload)
            back = values.decode(encoded.format, encoded.payload, encoded.refs)
            assert type(back) is type(array) and back.dtype == array.dtype and back.dtype.metadata == array.dtype.metadata and back.shape == array.shape
            assert (back == array).all()
    one = np.arange(5)
    before = values.encode(one).payload
    one[0] = 7  # what is kept has none of its bytes
    assert values.decode(wire.PICKLE, values.encode(one).payload)[0] == 7 and values.decode(wire.PICKLE, before)[0] == 0


def test_many_shapes_of_arrays_are_not_kept_for_ever():
    np = pytest.importorskip("numpy")
    from maniple._core import arrays

    for n in range(3 * arrays._MOST):
        values.encode(np.zeros(n))
    assert len(arrays._fronts) <= arrays._MOST
