"""get of small objects, one by one: of those that this process put, and of those that another one did."""

from stand import api, number, part, start, trips


@api.remote
def puts(count):
    return [api.put(i) for i in range(count)]


count = number(1)
start()
with part("own"):
    own = iter([api.put(i) for i in range(count + 50)])
    trips("own", count, lambda: api.get(next(own)))
with part("another's"):
    others = iter(api.get(puts.remote(count + 50)))
    trips("another's", count, lambda: api.get(next(others)))
api.shutdown()
