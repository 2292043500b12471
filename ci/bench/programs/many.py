"""Many at once: arguments of a task, results of one, objects of a get, of a wait, and references in one object."""

from stand import api, number, part, start, timed

few = number(1)
OBJECTS, RESULTS, WAITED = 10 * few, 3 * few, few


@api.remote
def take(*arguments):
    return len(arguments)


@api.remote
def numbers():
    return list(range(RESULTS))


@api.remote
def references():
    return [api.put(i) for i in range(OBJECTS)]


def same(got, wanted):
    if got != wanted:
        raise AssertionError(f"{got}, not {wanted}")


start()
api.get([take.remote(1, 2) for _ in range(100)])
objects = [api.put(i) for i in range(OBJECTS)]
with part("arguments"):
    same(timed("arguments", 1, lambda: api.get(take.remote(*objects), timeout=60)), OBJECTS)
with part("get"):
    same(sum(timed("get", 1, lambda: api.get(objects, timeout=60))), OBJECTS * (OBJECTS - 1) // 2)
del objects
with part("results"):
    many = numbers.options(num_returns=RESULTS)
    same(sum(timed("results", 1, lambda: api.get(many.remote(), timeout=60))), RESULTS * (RESULTS - 1) // 2)
with part("wait"):
    waited = [api.put(i) for i in range(WAITED)]
    same(len(timed("wait", 1, lambda: api.wait(waited, num_returns=WAITED, timeout=60))[0]), WAITED)
with part("references"):
    box = references.remote()
    api.wait([box], timeout=60)
    same(len(timed("references", 1, lambda: api.get(box, timeout=60))), OBJECTS)
api.shutdown()
