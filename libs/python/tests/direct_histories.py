"""Random histories of a driver and its actors, each with direct lines (ADR 0035) and without: values, errors and what the actors saw are the same.

    python direct_histories.py CLUSTER FIRST LAST    seeds
"""

import asyncio
import os
import random
import signal
import sys
import threading
import time

import maniple
from maniple import exceptions
from maniple._core import dial, twin

CALLS = 50  # after so many, one by one, there is a line
_attach = dial.attach


class Actor:
    def __init__(self):
        self.seen = []

    def hit(self, x):
        self.seen.append(x if isinstance(x, int) else len(x))
        return 2 * x if isinstance(x, int) else x

    def pair(self, x):
        return self.hit(x), len(self.seen)

    def none(self, x):
        self.seen.append(x)

    def fail(self, x):
        self.seen.append(x)
        raise KeyError(x)

    def rest(self, x, seconds):
        self.seen.append(x)
        time.sleep(seconds)
        return -x

    def large(self, x):
        self.seen.append(x)
        return bytes(200000) + str(x).encode()

    def put(self, x):
        self.seen.append(x)
        self.kept = maniple.put([x])
        return [self.kept]

    def ask(self, other, x):
        self.seen.append(x)
        return maniple.get(other.hit.remote(x)) + 1

    def items(self, x, n):
        self.seen.append(x)
        for i in range(n):
            yield x + i

    def die(self, x):
        os._exit(3)

    def fork(self, x):
        self.seen.append(x)
        child = os.fork()
        if not child:
            os._exit(0)
        return os.waitpid(child, 0)[1]

    def leave(self, x):
        maniple.actor.exit_actor()

    def all(self):
        return self.seen


class Interrupted(Exception):
    pass


class History:
    """One seed. told: what the user sees, in order."""

    sockets = 0  # that this process has without a line
    went = [0]  # calls by lines

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.told, self.pending, self.number, self.lines = [], [], 0, 0
        self.actors = [self.made() for _ in range(2)]

    def made(self):
        self.lives = getattr(self, "lives", 0) + 1
        again = self.lives % 2
        a = maniple.remote(max_restarts=-1 if again else 0)(Actor).remote()
        self.warm(a)
        return a, again

    def warm(self, a):
        for _ in range(CALLS):
            maniple.get(a.all.remote())
        self.lines += sockets() > History.sockets

    def next(self):
        self.number += 1
        return self.number

    def any(self):
        return self.actors[min(int(self.rng.random() * 3), 1)][0]

    def tell(self, what, ref, timeout=None):
        try:
            value = plain(maniple.get(ref, timeout=timeout))
        except Exception as e:
            value = type(e).__name__
        self.told.append((what, value))

    def call(self, a):
        x = self.next()
        kind = self.rng.choice(["hit", "hit", "hit", "hit", "fail", "large", "put", "pair", "none"])
        method = getattr(a, kind)
        returns = {"pair": 2, "none": 0}.get(kind)
        made = (method if returns is None else method.options(num_returns=returns)).remote(x)
        return [] if made is None else made if isinstance(made, list) else [made]

    def one(self):
        return self.pending.pop(self.rng.randrange(len(self.pending))) if self.pending else maniple.put(self.next())

    def settle(self):
        for i, ref in enumerate(self.pending):
            self.tell(f"pending {i}", ref)
        self.pending.clear()

    # What a driver may do.

    def burst(self):
        a = self.any()
        for _ in range(self.rng.randrange(1, 9)):
            kind = self.rng.choice(["hit"] * 12 + ["fail", "large", "put"])
            self.tell("burst", getattr(a, kind).remote(self.next()))

    def later(self):
        self.pending += self.call(self.any())

    def some(self):
        self.tell("some", self.one(), self.rng.choice([None, 60]))

    def another(self):
        a, b = self.rng.sample(self.actors, 2)
        slow = b[0].rest.remote(self.next(), 0.004)
        self.tell("before", a[0].hit.remote(self.next()))
        ref = [a[0].hit.remote(self.next()) if self.rng.randrange(2) else a[0].rest.remote(self.next(), 0.007)]
        if self.rng.randrange(3) == 0:
            ref.pop()
        self.tell("another", slow if self.rng.randrange(2) else self.one())
        if ref:
            self.tell("fresh", ref[0])

    def dropped(self):
        self.any().hit.remote(self.next())
        self.tell("behind a dropped one", self.call(self.any())[:1] or maniple.put(0))

    def timed(self):
        a = self.any()
        self.tell("timed", a.hit.remote(self.next()), 60)
        self.pending += self.call(a)
        self.tell("after it", a.hit.remote(self.next()))

    def silent(self):
        a = self.any()
        for _ in range(self.rng.randrange(1, 4)):
            a.none.options(num_returns=0).remote(self.next())
        self.tell("behind silent ones", a.hit.remote(self.next()))

    def short(self):
        a = self.any()
        ref = a.rest.remote(self.next(), self.rng.choice([0.004, 0.012, 0.02]))
        try:
            maniple.get(ref, timeout=self.rng.choice([0, 0.001, 0.005]))
        except exceptions.GetTimeoutError:
            pass
        self.pending += self.call(a)
        self.tell("late", ref)

    def rest(self):
        self.tell("rest", self.any().rest.remote(self.next(), self.rng.choice([0.001, 0.009, 0.011, 0.02])))

    def kept(self):
        a = self.any()
        refs = [a.hit.remote(self.next()) for _ in range(3)]
        for ref in refs:
            self.tell("kept", ref)
        for _ in range(self.rng.randrange(20)):
            refs.append(a.hit.remote(self.next()))
            self.tell("kept", refs[-1])
        self.tell("given", a.hit.remote(refs[-1]))
        self.tell("inside", self.any().hit.remote(refs))
        self.pending.append(refs[0])

    def wait(self):
        self.pending += self.call(self.any())
        ready, rest = maniple.wait(self.pending, num_returns=len(self.pending)) if self.pending else ([], [])
        self.told.append(("wait", len(ready), len(rest)))

    def cancelled(self):
        a, b = [actor for actor, _ in self.rng.sample(self.actors, 2)]
        self.tell("before", a.hit.remote(self.next()))
        first = a.rest.remote(self.next(), 0.01) if self.rng.randrange(2) else a.hit.remote(b.rest.remote(self.next(), 0.01))
        x = self.next()
        ref = a.hit.remote(x)
        maniple.cancel(ref)
        behind = a.hit.remote(self.next()) if self.rng.randrange(2) else None
        try:
            maniple.get(ref)  # it may have begun
        except exceptions.TaskCancelledError:
            pass
        self.unsure = getattr(self, "unsure", set()) | {x}
        self.tell("after a cancelled one", a.hit.remote(self.next()))
        self.tell("first", first)
        if behind is not None:
            self.tell("behind", behind)

    def killed(self):
        self.settle()
        at = self.rng.randrange(2)
        a, again = self.actors[at]
        self.look(a)
        self.tell("before", a.hit.remote(self.next()))
        maniple.kill(a, no_restart=not again)
        self.tell("after kill", a.hit.remote(self.next()))
        if not again:
            self.actors[at] = self.made()

    def died(self):
        self.settle()
        at = self.rng.randrange(2)
        a, again = self.actors[at]
        self.look(a)
        self.tell("died", a.die.remote(self.next()))
        self.tell("after", a.hit.remote(self.next()))
        if not again:
            self.actors[at] = self.made()

    def asked(self):
        a, b = self.rng.sample(self.actors, 2)
        self.tell("asked", a[0].ask.remote(b[0], self.next()))
        self.tell("then", b[0].hit.remote(self.next()))

    def items(self):
        a = self.any()
        refs = list(a.items.options(num_returns="streaming").remote(self.next(), 3))
        self.told.append(("items", [maniple.get(ref) for ref in refs]))
        self.tell("behind", a.hit.remote(self.next()))

    def threads(self):
        got = {}

        def run(i):
            got[i] = [maniple.get(self.actors[i][0].hit.remote(1000 * i + n)) for n in range(5)]

        other = threading.Thread(target=run, args=(1,))
        ref = self.actors[1][0].hit.remote(self.next())
        other.start()
        run(0)
        other.join()
        self.tell("before threads", ref)
        self.told.append(("threads", got[0], got[1]))

    def awaited(self):
        a, x = self.any(), [self.next() for _ in range(3)]

        async def run():
            return [await a.hit.remote(x[0])] + list(await asyncio.gather(a.hit.remote(x[1]), a.hit.remote(x[2])))

        self.told.append(("awaited", asyncio.run(run())))

    def future(self):
        self.told.append(("future", self.any().hit.remote(self.next()).future().result()))

    def lost(self):
        """The last handle goes while its call is under way."""
        handles = [maniple.remote(Actor).remote()]
        self.warm(handles[0])
        self.tell("of the last handle", handles.pop().rest.remote(self.next(), self.rng.choice([0, 0.02])))

    def listed(self):
        """Lists of what is here, comes, and is asked for twice."""
        a = self.any()
        here, fresh = a.hit.remote(self.next()), a.hit.remote(self.next())
        self.tell("one of a list", [here])
        self.tell("fresh, twice", [fresh, fresh])
        fresh = a.hit.remote(self.next())
        self.tell("here and fresh", self.rng.choice([[here, fresh], [fresh, here]]))
        late, fresh = a.rest.remote(self.next(), 0.002), a.hit.remote(self.next())
        self.tell("late and fresh", self.rng.choice([[late, fresh], [fresh, late], [fresh], [late]]))

    def alarmed(self, ref, handler, after):
        """Gets a value while a signal comes."""
        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, after)
            maniple.get(ref)
        except Interrupted:
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def interrupted(self):
        """A handler raises while a call is waited for."""
        a = self.any()
        self.tell("before", a.hit.remote(self.next()))
        ref = a.rest.remote(self.next(), self.rng.choice([0.004, 0.02, 0.1]))

        def stop(*_):
            raise Interrupted

        self.alarmed(ref, stop, self.rng.choice([0.002, 0.003, 0.01, 0.03]))
        self.pending += self.call(a)
        if self.rng.randrange(2):
            self.tell("after it", a.hit.remote(self.next()))
        self.tell("interrupted", ref)

    def handled(self):
        """A handler calls and waits itself while a call is waited for."""
        a, b = (actor for actor, _ in self.rng.sample(self.actors, 2))
        self.tell("before", a.hit.remote(self.next()))
        ref = a.rest.remote(self.next(), self.rng.choice([0.008, 0.02]))
        x, other = self.next(), self.rng.choice([a, b])
        told = []

        def ask(*_):
            told.append(maniple.get([other.hit.remote(x), b.rest.remote(-x, 0.003)]))

        self.alarmed(ref, ask, self.rng.choice([0.001, 0.002, 0.004]))
        if not told:  # it came too late
            ask()
        self.told.append(("handled", told))
        self.tell("behind the handler", ref)

    def forked(self):
        """A child has copies of all that its parent has open."""
        a = self.any()
        self.tell("before", a.hit.remote(self.next()))
        child = os.fork()
        if not child:
            time.sleep(0.005)
            os._exit(0)
        self.tell("beside a child", a.hit.remote(self.next()))
        os.waitpid(child, 0)
        self.tell("fork of the actor's", a.fork.remote(self.next()))
        self.tell("behind it", a.hit.remote(self.next()))

    def left(self):
        """The actor ends itself."""
        handles = [maniple.remote(Actor).remote()]
        self.warm(handles[0])
        self.tell("left", handles.pop().leave.remote(self.next()))

    def look(self, a):
        seen = maniple.get(a.all.remote())
        unsure = getattr(self, "unsure", set())
        self.told.append(("seen", [x for x in seen if not (isinstance(x, int) and x in unsure)]))

    def again(self):
        self.warm(self.any())

    def run(self):
        often = [self.burst] * 8 + [self.later] * 4 + [self.some, self.another, self.dropped, self.timed, self.silent, self.kept, self.cancelled, self.listed, self.interrupted] * 2
        seldom = [self.short, self.rest, self.wait, self.asked, self.items, self.threads, self.awaited, self.again, self.handled, self.forked]
        rare = [self.killed, self.died, self.lost, self.left]
        for _ in range(self.rng.randrange(15, 40)):
            k = self.rng.random()
            self.rng.choice(often if k < 0.85 else seldom if k < 0.985 else rare)()
        self.settle()
        for a, _ in self.actors:
            self.look(a)
        return self.told


def plain(value):
    """As it is in each run."""
    if isinstance(value, maniple.ObjectRef):
        return plain(maniple.get(value))
    return len(value) if isinstance(value, bytes) else [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def sockets():
    n = 0
    for f in os.listdir("/proc/self/fd"):
        try:
            n += os.readlink(f"/proc/self/fd/{f}").startswith("socket")
        except OSError:
            pass
    return n


def main(cluster, first, last):
    told, lines = {}, {}
    Gate, went = twin.fast.Gate, History.went
    direct_of_gate = Gate.direct

    def counted(gate):
        there = direct_of_gate(gate)
        went[0] += there
        return there

    Gate.direct = counted
    for direct in (True, False):
        dial.attach = lambda sock, build, fields: _attach(sock, build, {**fields, "direct": direct})
        maniple.init(cluster)
        History.sockets = sockets()
        for seed in range(first, last + 1):
            h = History(seed)
            told[direct, seed] = h.run()
            lines[direct] = lines.get(direct, 0) + h.lines
        if sockets() > History.sockets + direct:
            raise SystemExit(f"{sockets() - History.sockets} sockets are left of {h.lives} actors a seed")
        maniple.shutdown()
    Gate.direct = direct_of_gate
    for seed in range(first, last + 1):
        with_, without = told[True, seed], told[False, seed]
        for i, (a, b) in enumerate(zip(with_ + ["over"], without + ["over"])):
            if a != b:
                raise SystemExit(f"seed {seed}: {i}: with a line {a}, without {b}; before: {with_[max(0, i - 5) : i]}")
    if lines[False] or lines[True] < last - first or went[0] < 10 * (last - first):
        raise SystemExit(f"{lines[True]} lines with {went[0]} calls, {lines[False]} without")
    print(f"{last - first + 1} histories are alike, {lines[True]} lines with {went[0]} calls")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
