"""Objects that are made of parts of others."""

import time

import pytest

import maniple
from maniple._core import concat, values, wire
from maniple._core.session import current
from test_driver import double
from test_ranges import LARGE, WHAT

DATA = bytes(range(251)) * (LARGE // 251 + 1)


class Elsewhere:
    """Values at another node, of which an agent brings ranges. lost: of those, by number, nothing can be had alone after so many questions; then they have another value.

    asked: ranges, by the number of the value, and names: of what was made of them and is held; got: how often each was got as a whole.
    """

    def __init__(self, driver, *of, lost=None, later=None):
        self.driver, self.lost, self.later = driver, lost or {}, later or {}
        self.values = [values.encode(v) for v in of]
        self.payloads = [bytes(e.payload) for e in self.values]
        self.asked, self.got, self.refs, self.tasks, self.names = [[] for _ in of], [0] * len(of), [], [], set()
        for _ in of:
            self.refs.append(double.remote(1))
            self.tasks.append(driver.take("SUBMIT").fields.task)
        driver.handler = self.hear
        for task, encoded in zip(self.tasks, self.values):
            driver.raw_result(task, encoded.format, b"", flags=wire.LAST | wire.LOCATED)

    def hear(self, frame):
        fields, names = frame.fields, [ref.binary() for ref in self.refs]
        if frame.name == "GET" and fields.object in names:
            i = names.index(fields.object)
            self.got[i] += 1
            encoded = values.encode(self.later[i]) if i in self.later else self.values[i]
            self.driver.raw_result(self.tasks[i], encoded.format, bytes(encoded.payload), flags=wire.LAST | wire.NOT_TASK)
        elif frame.name == "SLICE":
            i = names.index(fields.of)
            known = len(self.asked[i]) < self.lost.get(i, 1 << 20)
            data = b"" if not known else self.payloads[i][fields.offset : fields.offset + fields.size] if fields.size else WHAT.pack(len(self.payloads[i]), self.values[i].format, 9)
            self.asked[i].append((fields.offset, fields.size))
            self.names.add(fields.object)
            self.driver.raw_result(fields.object[:16], wire.RAW, data, flags=wire.LAST | wire.NOT_TASK)
        elif frame.name == "RELEASE":
            self.names.discard(fields.object)

    def make(self, *plan):
        """What the task makes of such parts, by the numbers of values."""
        made = concat._make([(self.refs[i], *ends, *[None] * (3 - len(ends))) for i, *ends in plan])
        return values.decode(made.format, made.payload)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(concat, "_PIECE", 1000)
    monkeypatch.setattr(concat, "_AHEAD", 4000)


def test_bytes_of_several(driver, small_pieces):
    there = Elsewhere(driver, DATA, DATA[::-1], b"small", b"")
    assert there.make((0, 5, 4005), (1,), (2, 1), (0, -3), (3,), (0, 7, 7)) == DATA[5:4005] + DATA[::-1] + b"mall" + DATA[-3:]
    assert there.asked[0] == [(0, 0), (0, 0), (0, 0), *[(at, 1000) for at in range(5, 4005, 1000)], (len(DATA) - 3, 3)] and there.got == [0, 0, 1, 1]


def asked(there, count):
    """Waits until so much was asked of the first value, and nothing more is."""
    deadline = time.monotonic() + 10
    while len(there.asked[0]) < count and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(there.asked[0]) == count


def test_some_pieces_are_on_their_way(driver, small_pieces):
    there = Elsewhere(driver, DATA)
    pieces = concat._pieces(concat._measured(current(), [(there.refs[0], 0, 9000, None)]))
    for n in range(1, 5):
        assert bytes(next(pieces)) == DATA[(n - 1) * 1000 : n * 1000]
        asked(there, n + 4)
    pieces.close()


def nothing_is_kept(there, questions, *parts):
    """What was brought to learn what the parts are is let go of, though the parts are not done with."""
    measured = concat._measured(current(), [(there.refs[i], *of) for i, *of in parts])
    assert sum(map(len, there.asked)) == questions
    maniple.put(1)  # something that is sent takes the releases along
    deadline = time.monotonic() + 10
    while there.names and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not there.names and len(measured) == len(parts)


def test_what_the_parts_are_is_not_kept(driver):
    there = Elsewhere(driver, DATA, DATA[::-1])
    nothing_is_kept(there, 3, (0, 0, 5, None), (1, None, None, None), (0, 5, 9, None))


def test_what_arrays_begin_with_is_not_kept(driver):
    np = pytest.importorskip("numpy")
    a = np.arange(200_000.0).reshape(2000, 100)
    there = Elsewhere(driver, a, {"x": a + 1})
    nothing_is_kept(there, 6, (0, 10, 1990, None), (1, None, -1, "x"), (0, 0, 3, None))


def test_many_are_asked_for_at_once(driver, monkeypatch):
    monkeypatch.setattr(concat, "_QUESTIONS", 3)
    there = Elsewhere(driver, *[DATA[i:] for i in range(7)])
    assert there.make(*[(i, 0, 5) for i in range(7)]) == b"".join(DATA[i : i + 5] for i in range(7))
    assert there.asked == [[(0, 0), (0, 5)]] * 7


def test_rows_of_several(driver, small_pieces):
    np = pytest.importorskip("numpy")
    a = np.arange(200_000.0).reshape(2000, 100)
    there = Elsewhere(driver, a, {"x": a + 1, "few": a[:3]}, np.asfortranarray(a + 2))
    made = there.make((0, 10, 1990), (1, None, -1, "x"), (1, 1, 3, "few"), (2, 0, 5))
    assert made.dtype == a.dtype and (made == np.concatenate([a[10:1990], a[:-1] + 1, a[1:3], a[:5] + 2])).all()
    assert there.got[:2] == [0, 0] and there.got[2] >= 1


@pytest.mark.parametrize("dtype", ["i1", "f4", "S3", ">i4", [("a", "i4"), ("b", "f8")], "?"], ids=str)
def test_kinds_of_elements(driver, dtype):
    np = pytest.importorskip("numpy")
    a = np.arange(60_000).astype("i4").astype(dtype) if not isinstance(dtype, list) else np.zeros(60_000, dtype)
    b = a[:10]
    there = Elsewhere(driver, a, b)
    made = there.make((0,), (1, 2, 5), (0, 0, 0))
    assert made.dtype == a.dtype and (made == np.concatenate([a, b[2:5]])).all()


def test_a_value_that_was_lost_meanwhile_is_got_as_a_whole(driver, small_pieces):
    there = Elsewhere(driver, DATA, DATA[::-1], lost={0: 4})
    assert there.make((1, 0, 2500), (0, 0, 9000), (1, 5, 6)) == DATA[::-1][:2500] + DATA[:9000] + DATA[::-1][5:6]
    assert there.got == [1, 0]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("taken", range(5))
def test_a_part_is_of_one_value(driver, small_pieces, monkeypatch, taken, shared):
    """Of one that is made anew meanwhile with as many bytes, all of it is the new one."""
    new = bytes(255 - b for b in DATA)
    there = Elsewhere(driver, DATA, DATA[::-1], lost={0: 1 + taken}, later={0: new})
    rounds = []
    if shared:  # without memory to share: what is written is what there is
        monkeypatch.setattr(current(), "shared", lambda made: True)
        monkeypatch.setattr(current(), "write", lambda size, parts: rounds.append(0) or rounds.append(b"".join(parts)))
    made = concat._make([(there.refs[1], 0, 2500, None), (there.refs[0], 3, 4503, None), (there.refs[1], 5, 6, None)])
    assert (rounds[-1] if shared else made.payload) == DATA[::-1][:2500] + new[3:4503] + DATA[::-1][5:6]
    assert there.got == [1, 0] and (not shared or rounds.count(0) == (2 if taken else 1))


def test_a_value_that_is_another_one_meanwhile(driver, small_pieces):
    there = Elsewhere(driver, DATA, DATA, lost={0: 4, 1: 4}, later={0: DATA[:7000], 1: DATA[:7000]})
    with pytest.raises(ValueError, match=r"part 0 .* has 7000 rows or bytes, of which \[0:8000\] are wanted"):
        there.make((0, 0, 8000))
    with pytest.raises(ValueError, match=rf"part 0 .* was made anew while it was read, .* bytes of 7000 bytes, not bytes of {len(DATA)}"):
        there.make((1,))


@pytest.mark.parametrize("ends", [(0, LARGE * 2), (-LARGE * 2, None), (LARGE * 2, None)], ids=str)
@pytest.mark.parametrize("lost", [0, 100])
def test_a_range_that_is_not_there(driver, ends, lost):
    there = Elsewhere(driver, DATA, DATA, lost={1: lost})
    with pytest.raises(ValueError, match=f"part 1 .* has {len(DATA)} rows or bytes, of which .* are wanted"):
        there.make((0, 0, 5), (1, *ends))


@pytest.mark.parametrize("value", ["text", [1, 2], 7, None, {"a": b"x"}], ids=repr)
def test_parts_of_the_wrong_type(driver, value):
    there = Elsewhere(driver, b"x", value)
    with pytest.raises(TypeError, match=f"part 1 .* is of type {type(value).__name__}: parts are bytes, or arrays"):
        there.make((0,), (1,))


def test_parts_of_different_kinds(driver):
    np = pytest.importorskip("numpy")
    there = Elsewhere(driver, np.zeros((2, 3)), np.zeros((2, 4)), np.zeros((2, 3), "f4"), b"bytes", np.float64(1), np.array([None]), np.zeros(3, "M8[s]"))
    for other, said in [(1, r"rows of float64 \(4,\)"), (2, r"rows of float32 \(3,\)"), (3, "bytes")]:
        with pytest.raises(TypeError, match=rf"part 1 .* is {said}, and part 0 .* is rows of float64 \(3,\)"):
            there.make((0,), (other,))
    with pytest.raises(TypeError, match=r"arrays of datetime64\[s\] .*i8"):
        there.make((6,))
    for other, said in [(4, "type float64"), (5, "type ndarray of object")]:
        with pytest.raises(TypeError, match=said):
            there.make((0,), (other,))


def test_the_error_of_a_part(driver):
    ref, other = double.remote(1), double.remote(2)
    driver.raises(driver.take("SUBMIT").fields.task, ZeroDivisionError("none"))
    driver.result(driver.take("SUBMIT").fields.task, b"x")
    with pytest.raises(ZeroDivisionError):
        concat._make([(other, None, None, None), (ref, None, None, None)])


def test_it_is_a_task(driver):
    ref = double.remote(1)
    driver.take("SUBMIT")
    made = maniple.concat([ref, (ref, 1, 2), (ref, 0, -1, "x")], num_cpus=0.5, max_retries=7)
    frame = driver.take("SUBMIT")
    assert (frame.fields.deps, frame.fields.refs) == (0, 1) and made.binary()[:16] == frame.fields.task


@pytest.mark.parametrize("parts, error, said", [
    ([], ValueError, "one part at least"), (None, TypeError, "a list"), ([1], TypeError, "part 0 is 1"), ([()], TypeError, "part 0"), (["ref"], TypeError, "part 0"),
], ids=str)  # fmt: skip
def test_what_are_no_parts(driver, parts, error, said):
    with pytest.raises(error, match=said):
        maniple.concat(parts)


def test_what_are_no_ends_and_no_options(driver):
    ref = double.remote(1)
    with pytest.raises(TypeError, match="whole number"):
        maniple.concat([(ref, 0.5, 1)])
    with pytest.raises(TypeError, match="part 0"):
        maniple.concat([(ref, 1)])
    with pytest.raises(ValueError, match="num_returns"):
        maniple.concat([ref], num_returns=2)
    with pytest.raises(ValueError, match="num_cpu"):
        maniple.concat([ref], num_cpu=2)
