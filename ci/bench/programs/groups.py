"""Groups of one bundle: made, waited for and removed one by one, and fifty at a time."""

from stand import api, module, number, part, start, timed

groups = module("util.placement_group")
BUNDLE = {"CPU": 0.01}  # so small that no group waits for the end of another


def made(count):
    return [groups.placement_group([BUNDLE]) for _ in range(count)]


def there(some):
    for group in some:
        if not group.wait(60):
            raise TimeoutError("a group of one bundle is not there after 60 s")


def gone(some):
    for group in some:
        groups.remove_placement_group(group)


def rounds(count, at_once):
    for _ in range(count):
        some = made(at_once)
        there(some)
        gone(some)


def all_rounds(count, at_once):
    """And one more group, which is there when the removals before it were heard."""
    rounds(count, at_once)
    rounds(1, 1)


few = number(1)
start()
with part("one by one"):
    rounds(10, 1)
    timed("one by one", 10 * few + 1, lambda: all_rounds(10 * few, 1))
with part("50 in flight"):
    rounds(1, 50)
    timed("50 in flight", 50 * (few // 2) + 1, lambda: all_rounds(few // 2, 50))
api.shutdown()
