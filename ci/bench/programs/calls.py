"""Calls of actors, all sent before the first is got: one driver and one actor, one and four, four and four."""

from stand import api, number, part, start, timed


@api.remote(num_cpus=0)
class Actor:
    def nothing(self):
        pass


@api.remote(num_cpus=0)
class Driver:
    def drive(self, actors, count):
        api.get([actors[i % len(actors)].nothing.remote() for i in range(count)])


count = number(1)
start()
with part("1:1"):
    one = Actor.remote()
    api.get([one.nothing.remote() for _ in range(100)])
    timed("1:1", count, lambda: api.get([one.nothing.remote() for _ in range(count)]))
with part("1:4", "4:4"):
    four = [Actor.remote() for _ in range(4)]
    api.get([a.nothing.remote() for a in four for _ in range(25)])
    timed("1:4", count, lambda: api.get([four[i % 4].nothing.remote() for i in range(count)]))
with part("4:4"):
    drivers = [Driver.remote() for _ in range(4)]
    api.get([d.drive.remote(four, 20) for d in drivers])
    each = count // 2
    timed("4:4", 4 * each, lambda: api.get([d.drive.remote(four, each) for d in drivers]))
api.shutdown()
