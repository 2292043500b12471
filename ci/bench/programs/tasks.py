"""Tasks that do nothing: all submitted, then all got."""

from stand import api, number, start, timed


@api.remote
def nothing():
    pass


count = number(1)
start()
api.get([nothing.remote() for _ in range(1000)])
timed("tasks", count, lambda: api.get([nothing.remote() for _ in range(count)]))
api.shutdown()
