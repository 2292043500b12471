"""Parts of values that lie at other nodes."""

import struct

import pytest

import maniple
from maniple import exceptions
from maniple._core import values, wire
from test_driver import double

WHAT = struct.Struct("<QII")
LARGE = 1 << 20


class Elsewhere:
    """A value at another node, of which an agent brings ranges. asked: those, but for what it is; got: it was got as a whole; after: of later questions than so many
    nothing can be had."""

    def __init__(self, driver, value, after=100):
        encoded = values.encode(value)
        self.driver, self.format, self.payload = driver, encoded.format, bytes(encoded.payload)
        self.asked, self.got, self.after = [], 0, after
        self.ref = double.remote(1)
        self.task = driver.take("SUBMIT").fields.task
        driver.handler = self.hear
        driver.raw_result(self.task, self.format, b"", flags=wire.LAST | wire.LOCATED)

    def hear(self, frame):
        fields = frame.fields
        if frame.name == "GET" and fields.object == self.ref.binary():
            self.got += 1
            self.driver.raw_result(self.task, self.format, self.payload, flags=wire.LAST | wire.NOT_TASK)
        elif frame.name == "SLICE":
            assert fields.of == self.ref.binary() and fields.version == (9 if self.asked else 0)
            data = self.payload[fields.offset : fields.offset + fields.size] if fields.size else WHAT.pack(len(self.payload), self.format, 9)
            self.asked.append((fields.offset, fields.size))
            self.driver.raw_result(fields.object[:16], wire.RAW, data if len(self.asked) <= self.after else b"", flags=wire.LAST | wire.NOT_TASK)

    def range(self, *args, **options):
        self.asked = []
        return maniple.get_range(self.ref, *args, **options)


def test_some_of_the_bytes(driver):
    data = bytes(range(256)) * (LARGE // 256)
    there = Elsewhere(driver, data)
    for start, stop in [(5, 1005), (None, 3), (-7, None), (LARGE - 2, LARGE + 9)]:
        assert there.range(start, stop) == data[start:stop]
        begin, end, _ = slice(start, stop).indices(LARGE)
        assert there.asked == [(0, 0), (begin, end - begin)]
    assert there.range(9, 2) == b"" == there.range(LARGE) and there.asked == [(0, 0)]
    assert not there.got


@pytest.mark.parametrize("after", [0, 1])
def test_what_can_not_be_had_in_part_is_got_as_a_whole(driver, after):
    data = bytes(LARGE)
    there = Elsewhere(driver, data, after=after)
    assert there.range(5, 8) == data[5:8] and there.got == 1


@pytest.mark.parametrize("value", ["t" * LARGE, b"small", [b"x" * LARGE], {"a": bytearray(LARGE)}], ids=lambda v: type(v).__name__)
def test_what_can_not_be_divided_is_got_as_a_whole(driver, value):
    there = Elsewhere(driver, value)
    if type(value) is dict:
        assert there.range(3, 9, item="a") == bytearray(6)
    else:
        assert there.range(3, 9) == value[3:9]
    assert there.got == 1


def test_rows(driver):
    np = pytest.importorskip("numpy")
    a = np.arange(200_000.0).reshape(2000, 100)
    there = Elsewhere(driver, a)
    begin = len(there.payload) - a.nbytes
    for start, stop in [(3, 5), (-2, None), (None, 1), (7, 7), (1990, 5000)]:
        part = there.range(start, stop)
        assert part.dtype == a.dtype and part.shape == a[start:stop].shape and (part == a[start:stop]).all()
        first, last, _ = slice(start, stop).indices(len(a))
        assert there.asked[2:] == ([(begin + first * 800, (last - first) * 800)] if last > first else [])
        with pytest.raises(ValueError):
            part[...] = 1
    assert not there.got


def test_one_of_several_arrays(driver):
    np = pytest.importorskip("numpy")
    a = np.arange(200_000, dtype="i4")
    there = Elsewhere(driver, {"few": a[:3], "more": (1, np.float64(2)), "all": a, "columns": a.reshape(2, -1).T})
    assert (there.range(9, 12, item="all") == a[9:12]).all() and there.asked[2][1] == 12
    assert (there.range(stop=2, item="few") == a[:2]).all() and not there.got
    assert (there.range(0, 2, item="columns") == a.reshape(2, -1).T[0:2]).all() and there.got == 1


def test_an_item_that_is_not_there(driver):
    np = pytest.importorskip("numpy")
    there = Elsewhere(driver, {"a": np.zeros(LARGE)})
    with pytest.raises(KeyError):
        there.range(0, 1, item="b")


def test_what_is_not_there_in_time(driver):
    ref = double.remote(1)
    with pytest.raises(exceptions.GetTimeoutError):
        maniple.get_range(ref, 0, 1, timeout=0.05)


def test_the_error_of_its_task(driver):
    ref = double.remote(1)
    driver.raises(driver.take("SUBMIT").fields.task, ZeroDivisionError("none"))
    with pytest.raises(ZeroDivisionError):
        maniple.get_range(ref, 0, 1)


@pytest.mark.parametrize("args", [([], 0, 1), (1, 0, 1)], ids=repr)
def test_what_is_no_reference(driver, args):
    with pytest.raises(TypeError, match="one reference"):
        maniple.get_range(*args)


def test_ends_that_are_no_numbers(driver):
    with pytest.raises(TypeError, match="whole number"):
        maniple.get_range(double.remote(1), 0.5, 1)


@pytest.mark.parametrize(
    "value, item, why",
    [
        ({"a": 1}, None, "the value is a dict; item= names one of a dict"),
        (5, None, "the value is a int"),
        ({"a": 1}, "a", "item 'a' is a int"),
        (b"words", "a", "no items: it is a bytes"),
        (5, "a", "no items: it is a int"),
    ],
)
def test_what_has_no_parts_says_so(driver, value, item, why):
    with pytest.raises(TypeError, match=why):
        Elsewhere(driver, value).range(0, 2, item=item)


def test_parts_of_what_lies_in_a_dict(driver):
    there = Elsewhere(driver, {"a": "words", "b": [1, 2, 3]})
    assert there.range(0, 2, item="a") == "wo" and there.range(1, item="b") == [2, 3]
    with pytest.raises(KeyError):
        there.range(0, 1, item="c")
