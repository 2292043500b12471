"""A little of all that the package does, on whichever Python runs it: tasks, actors, large values, streams, groups, errors, the timeline."""

import asyncio
import sys

import numpy

import maniple
from maniple._core import twin
from maniple.util import placement_group, remove_placement_group
from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy as On

maniple.init(num_cpus=2)
assert twin.fast is not None, "the extension of the wheel is not there"


@maniple.remote
def add(*numbers):
    return sum(numbers)


@maniple.remote
def nested(depth):
    return depth if depth == 0 else 1 + maniple.get(nested.remote(depth - 1))


@maniple.remote
def look(array):
    assert not array.flags.writeable
    return float(array.sum())


@maniple.remote(num_returns="streaming")
def count(n):
    yield from range(n)


@maniple.remote
def fail():
    raise KeyError("mine")


@maniple.remote
class Counter:
    def __init__(self):
        self.n = 0

    def add(self, k):
        self.n += k
        return self.n


@maniple.remote
class Async:
    async def double(self, x):
        await asyncio.sleep(0.01)
        return 2 * x


assert maniple.get([add.remote(i, add.remote(i)) for i in range(1000)]) == [2 * i for i in range(1000)]
assert maniple.get(nested.remote(20)) == 20
array = numpy.arange(4_000_000.0)
assert maniple.get(look.remote(maniple.put(array))) == array.sum()
assert numpy.array_equal(maniple.get(maniple.put(array)), array)
assert [maniple.get(ref) for ref in count.remote(100)] == list(range(100))
counter, several = Counter.remote(), Async.remote()
assert maniple.get([counter.add.remote(1) for _ in range(1000)])[-1] == 1000
assert maniple.get([several.double.remote(i) for i in range(50)]) == [2 * i for i in range(50)]
try:
    maniple.get(fail.remote())
except KeyError as e:
    assert isinstance(e, maniple.exceptions.TaskError) and "mine" in str(e)
else:
    raise AssertionError("an exception of a task did not come back")
maniple.kill(counter)
group = placement_group([{"CPU": 1}])
assert group.wait(30) and maniple.get(add.options(scheduling_strategy=On(group, 0)).remote(1, 2)) == 3
remove_placement_group(group)
assert any(e.get("cat") == "task::add" for e in maniple.timeline())
maniple.shutdown()
print("all is well on Python %d.%d.%d" % sys.version_info[:3])
