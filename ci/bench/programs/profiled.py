"""Tasks and actor calls, one by one and many at once, while the bench looks with one tool after the other."""

import sys
import time

from stand import api, ask, number, percentile, say, start


@api.remote
def nothing():
    pass


@api.remote(num_cpus=0)
class Actor:
    def nothing(self):
        pass


def one_by_one(call):
    def work(count):
        clock, took = time.perf_counter, []
        for _ in range(count):
            began = clock()
            api.get(call())
            took.append(clock() - began)
        return took

    return work


def at_once(call):
    def work(count):
        began = time.perf_counter()
        for at in range(0, count, 10_000):
            api.get([call() for _ in range(min(10_000, count - at))])
        return [(time.perf_counter() - began) / count]

    return work


few = number(1)
start()
actor = Actor.remote()
work = {
    "task, one by one": (one_by_one(nothing.remote), few),
    "tasks, 10,000 at once": (at_once(nothing.remote), 10 * few),
    "actor call, one by one": (one_by_one(actor.nothing.remote), 2 * few),
    "actor calls, 10,000 at once": (at_once(actor.nothing.remote), 10 * few),
}
for name, (do, count) in work.items():
    do(count // 4)
    for tool in sys.argv[3:]:
        ask(f"start {tool} {name}")
        took = do(count)
        ask(f"stop {tool} {name}")
        if tool == "clocks":
            say(name, count=count, p50=percentile(took, 50), p90=percentile(took, 90))
api.shutdown()
