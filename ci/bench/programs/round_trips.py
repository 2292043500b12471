"""One task, and one call of an actor, from the call to its result, one after the other."""

from stand import api, number, part, start, trips


@api.remote
def nothing():
    pass


@api.remote(num_cpus=0)
class Actor:
    def nothing(self):
        pass


start()
with part("task"):
    trips("task", number(1), lambda: api.get(nothing.remote()))
with part("actor"):
    actor = Actor.remote()
    trips("actor", 2 * number(1), lambda: api.get(actor.nothing.remote()))
api.shutdown()
