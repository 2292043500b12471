"""A small agent for tests that passes work from drivers to real workers, forked from a real template.

One node, no limits, nothing is ever freed: just enough for the two ends of the SDK to meet. What a real agent
cuts a process off for, it notes in `wrong`: numbers that were not said before, objects that are named and not
held, releases of what is not held or of more deliveries than there were.
"""

import collections
import itertools
import json
import os
import subprocess
import sys
import threading

import scripted
from maniple._core import wire
from scripted import PATIENCE, Agent, keys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Work:
    """A task or call on its way."""

    def __init__(self, frame, owner, task, deps):
        self.frame, self.owner, self.task, self.deps, self.worker, self.cancelled = frame, owner, task, deps, None, False


class Worker:
    def __init__(self, key):
        self.key, self.peer, self.running, self.actor, self.known = key, None, [], None, set()
        self.pid, self.ended = None, None


class Actor:
    def __init__(self, fields, creator):
        self.fields, self.creator, self.worker, self.queue, self.dead = fields, creator, None, [], ""


class Relay(Agent):
    def __init__(self, directory, modules=(), **options):
        super().__init__(directory, **options)
        self.lock = threading.RLock()
        self.keys = itertools.count(1)
        self.template, self.template_peer, self.modules = None, None, modules
        self.workers, self.queue = {}, collections.deque()
        self.functions, self.methods, self.objects, self.owners = {}, {}, {}, {}
        self.waiting, self.actors, self.by_task = collections.defaultdict(list), {}, {}
        self.seen = collections.Counter()
        self.holds, self.wrong = {}, []  # deliveries by process and key
        self.extra_env = ["MANIPLE_JOB_CONFIG=" + json.dumps({"sys_path": [os.path.dirname(os.path.abspath(__file__))], "namespace": "test"})]
        self.on_attach, self.on_gone = self.came, self.went

    def start_template(self):
        env = {**os.environ, "MANIPLE_ADDRESS": self.path, "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
        self.template = subprocess.Popen([sys.executable, "-m", "maniple._template", *self.modules], env=env)

    def came(self, peer):
        kind = int(peer.attach["kind"])
        with self.lock:
            if kind == 3:
                self.template_peer = peer
                peer.handler = self.from_template
                for worker in self.workers.values():
                    self.fork(worker)
            elif kind == 2:
                worker = self.workers[peer.attach["worker"]]
                worker.peer = peer
                peer.handler = lambda frame: self.from_worker(worker, frame)
                self.schedule()
            else:
                peer.handler = lambda frame: self.from_client(peer, frame)

    def went(self, peer):
        with self.lock:
            for worker in list(self.workers.values()):
                if worker.peer is peer:
                    self.lost(worker)

    def lost(self, worker):
        del self.workers[worker.key]
        for work in list(worker.running):
            code, what = ("ACTOR_DIED", "the actor died") if worker.actor else ("WORKER_DIED", "the worker died")
            self.settle_failure(work, code, what)
        if worker.actor:
            self.bury(worker.actor, "its process ended")
        self.schedule()

    def bury(self, actor, why):
        actor.dead = actor.dead or why
        for work in actor.queue:
            self.settle_failure(work, "ACTOR_DIED", f"the actor is dead: {actor.dead}")
        actor.queue = []

    def settle_failure(self, work, code, message):
        returns = 1 if work.frame.name == "CREATE" else work.frame.fields.returns
        payload = scripted.failures.plain(code, message, work.task)
        count = 1 if returns >= wire.STREAM else max(returns, 1)
        for index in range(count):
            flags = wire.ERROR | (wire.LAST if index == count - 1 else 0)
            self.settle(wire.key_of(work.task, index), (flags, wire.FAILURE, 0, payload))
        self.by_task.pop(work.task, None)

    # Workers.

    def new_worker(self):
        worker = Worker(next(self.keys))
        self.workers[worker.key] = worker
        if self.template is None:
            self.start_template()
        elif self.template_peer:
            self.fork(worker)
        return worker

    def fork(self, worker):
        self.template_peer.table("Fork", {"key": worker.key, "env": self.extra_env})

    def from_template(self, frame):
        with self.lock:
            assert frame.name == "WORKER_STATE", frame
            worker = self.workers.get(frame.fields["key"])
            if worker:
                worker.pid = frame.fields.get("pid")

    def schedule(self):
        """Gives what waits to workers that are idle, or to new ones."""
        with self.lock:
            for actor in self.actors.values():
                if actor.worker.peer:
                    while actor.queue and self.there(actor.queue[0]):
                        self.give(actor.worker, actor.queue.pop(0))
            for _ in range(len(self.queue)):
                work = self.queue.popleft()
                if not self.there(work):
                    self.queue.append(work)
                    continue
                idle = [w for w in self.workers.values() if not w.running and not w.actor]
                worker = next((w for w in idle if w.peer), None)
                if worker is None:
                    self.queue.appendleft(work)
                    if len(idle) < 1:
                        self.new_worker()
                    return
                self.give(worker, work)

    def there(self, work):
        return all(key in self.objects for key in work.deps)

    def give(self, worker, work):
        if work.cancelled:
            return
        frame = work.frame
        if frame.name in ("SUBMIT", "CREATE"):
            number = frame.fields["function"] if frame.name == "CREATE" else frame.fields.function
            if number not in worker.known:
                fields, payload = self.functions[number]
                worker.peer.table("Function", fields, payload)
                worker.known.add(number)
        for key in work.deps:
            self.tell(worker.peer, key)
        work.worker = worker
        worker.running.append(work)
        deps, refs = (frame.fields["deps"] or 0, frame.fields["refs"] or 0) if frame.name == "CREATE" else (frame.fields.deps, frame.fields.refs)
        self.deliver(worker.peer, frame.payload, deps, refs)
        if frame.name == "CREATE":
            worker.peer.table("Create", frame.fields, frame.payload)
        else:
            hot = getattr(wire, frame.name)
            worker.peer.send(hot.pack(len(frame.payload), 0, *frame.fields) + frame.payload)

    def from_worker(self, worker, frame):
        with self.lock:
            if frame.name == "RESULT":
                f = frame.fields
                self.holds_all(worker.peer, frame, f.refs)
                self.settle(f.object, (f.flags, f.format, f.refs, frame.payload))
                if f.flags & wire.LAST:
                    done = [w for w in worker.running if w.task == f.object[:16]]
                    assert done, "a result of a task that the worker was not given"
                    worker.running.remove(done[0])
                    self.by_task.pop(done[0].task, None)
                    self.schedule()
            elif frame.name == "GOODBYE" and worker.actor:
                worker.actor.dead = frame.fields["reason"]
            else:
                self.from_client(worker.peer, frame)

    # Who holds what.

    def names(self, peer, key):
        actor = self.actors.get(key[:16])
        return (peer, key) in self.holds or (actor is not None and key[16:] == bytes(4) and actor.worker.peer is peer)

    def holds_all(self, peer, frame, count):
        for key in keys(frame, count):
            if not self.names(peer, key):
                self.wrong.append(f"{frame.name} of {peer.attach['name']} names {key.hex()}, which it does not hold")

    def on_release(self, peer, frame):
        key, deliveries = frame.fields
        held = self.holds.get((peer, key))
        if held is None:
            if not (key[4:8] == peer.number.to_bytes(4, "little") and deliveries == 0):
                self.wrong.append(f"{peer.attach['name']} releases {key.hex()}, which it does not hold")
        elif deliveries > held:
            self.wrong.append(f"{peer.attach['name']} releases {deliveries} of {held} deliveries of {key.hex()}")
        elif deliveries == held:
            del self.holds[peer, key]
        else:
            self.holds[peer, key] = held - deliveries

    def made(self, peer, task, returns):
        for index in range(returns if returns < wire.STREAM else 1):
            self.holds.setdefault((peer, wire.key_of(task, index)), 0)

    # Clients, and workers as clients.

    def from_client(self, peer, frame):
        with self.lock:
            self.seen[frame.name] += 1
            getattr(self, "on_" + frame.name.lower(), lambda *_: None)(peer, frame)

    def on_function(self, peer, frame):
        number = int.from_bytes(bytes(frame.fields["hash"])[:8], "little")
        self.functions[number] = frame.fields, frame.payload

    def on_methods(self, peer, frame):
        self.methods[frame.fields["function"]] = frame.fields["names"]

    def on_submit(self, peer, frame):
        assert frame.fields.function in self.functions
        self.holds_all(peer, frame, frame.fields.deps + frame.fields.refs)
        self.made(peer, frame.fields.task, frame.fields.returns)
        work = Work(frame, peer, frame.fields.task, keys(frame, frame.fields.deps))
        self.by_task[work.task] = work
        self.owners[work.task] = peer
        self.queue.append(work)
        peer.credit(len(frame.payload), 1)
        self.schedule()

    def on_create(self, peer, frame):
        task = wire.task_bytes(frame.fields["actor"])
        self.holds_all(peer, frame, (frame.fields["deps"] or 0) + (frame.fields["refs"] or 0))
        self.made(peer, task, 1)
        actor = self.actors[task] = Actor(frame.fields, peer)
        actor.worker = self.new_worker()
        actor.worker.actor = actor
        work = Work(frame, peer, task, keys(frame, frame.fields.get("deps") or 0))
        self.owners[task] = peer
        actor.queue.append(work)
        peer.credit(len(frame.payload), 1)
        self.schedule()

    def on_call(self, peer, frame):
        f = frame.fields
        self.holds_all(peer, frame, f.deps + f.refs)
        self.made(peer, f.task, f.returns)
        if not self.names(peer, wire.key_of(f.actor, 0)):
            self.wrong.append(f"{peer.attach['name']} calls an actor that it has no handle of")
        work = Work(frame, peer, f.task, keys(frame, f.deps))
        self.by_task[work.task] = work
        self.owners[work.task] = peer
        actor = self.actors[f.actor]
        peer.credit(len(frame.payload), 1)
        if actor.dead:
            self.settle_failure(work, "ACTOR_DIED", f"the actor is dead: {actor.dead}")
            return
        actor.queue.append(work)
        self.schedule()

    def on_put(self, peer, frame):
        f = frame.fields
        self.holds_all(peer, frame, f.refs)
        self.made(peer, f.object[:16], 1)
        peer.credit(len(frame.payload), 1)
        self.settle(f.object, (wire.NOT_TASK, f.format, f.refs, frame.payload))

    def on_get(self, peer, frame):
        f = frame.fields
        if f.want == wire.WANT_ALONE:  # nothing is ever freed
            return
        if f.want == wire.WANT_TAKEN:
            work = self.by_task.get(f.object[:16])
            if work and work.worker:
                work.worker.peer.send(wire.GET.pack(0, 0, *f))
            return
        if (peer, f.object) not in self.holds:
            self.wrong.append(f"{peer.attach['name']} asks for {f.object.hex()}, which it does not hold")
        self.waiting[f.object].append((peer, f.want))
        if f.object in self.objects:
            self.answer(f.object)

    def on_cancel(self, peer, frame):
        task = frame.fields.task
        if task in self.actors:
            actor = self.actors[task]
            actor.dead = "it was killed"
            if actor.worker.peer:
                actor.worker.peer.close()
            return
        work = self.by_task.get(task)
        if work is None:
            return
        if work.worker is None:
            work.cancelled = True
            if work in self.queue:
                self.queue.remove(work)
            self.settle_failure(work, "CANCELLED", "cancelled before it ran")
        elif frame.fields.force:
            work.worker.peer.close()
        else:
            work.worker.peer.send(wire.CANCEL.pack(0, 0, *frame.fields))

    def on_state_query(self, peer, frame):
        what, id = frame.fields["what"], frame.fields.get("id") or ""
        reply, error = {}, ""
        if what == "actor":
            found = [(t, a) for t, a in self.actors.items() if not a.dead and f"{a.fields.get('namespace_')}/{a.fields.get('name')}" == id]
            if found:
                task, actor = found[0]
                self.holds[peer, wire.key_of(task, 0)] = self.holds.get((peer, wire.key_of(task, 0)), 0) + 1
                reply = {"actor": {"id": wire.task_text(task), "function": actor.fields["function"], "methods": list(self.methods[actor.fields["function"]]), "groups": []}}
            else:
                error = "there is none"
        elif what in ("nodes", "free"):
            reply = {"nodes": [{"name": "n1", "state": "up", "addresses": ["127.0.0.1:1234"], "total": {"CPU": 2}, "free": {"CPU": 1}, "labels": {"zone": "a"}}]}
        elif what == "cluster":
            reply = {"cluster": {"total": {"CPU": 2, "memory": 100}, "free": {"CPU": 0, "memory": 50}}}
        elif what == "broken":
            peer.table("StateReply", {}, b"no json", frame.corr)
            return
        peer.table("StateReply", {"error": error}, json.dumps({"version": 1, **reply}).encode(), frame.corr)

    # Objects.

    def settle(self, key, result):
        self.objects[key] = result
        owner = self.owners.get(key[:16])
        if owner is not None:
            self.tell(owner, key)
        self.answer(key)
        if self.queue or self.actors:
            self.schedule()

    def answer(self, key):
        for peer, want in self.waiting.pop(key, []):
            if want == wire.WANT_VALUE:
                self.tell(peer, key)
            else:
                peer.ready(key, wire.IS_ERROR if self.objects[key][0] & wire.ERROR else wire.IS_HERE if want == wire.WANT_HERE else wire.IS_READY)

    def tell(self, peer, key):
        flags, format, refs, payload = self.objects[key]
        self.deliver(peer, payload, 0, refs)
        if flags & wire.NOT_TASK == 0 and self.owners.get(key[:16]) is peer:
            self.holds.setdefault((peer, key), 0)  # an item of a stream
        peer.send(wire.RESULT.pack(len(payload), 0, key, 0, flags, format, refs, len(payload) - 24 * refs, 0, 0) + payload)

    def deliver(self, peer, payload, begin, refs):
        for at in range(24 * begin, 24 * (begin + refs), 24):
            key = bytes(payload[at : at + 20])
            self.holds[peer, key] = self.holds.get((peer, key), 0) + 1

    def close(self):
        super().close()
        if self.template:
            self.template.terminate()
            self.template.wait(PATIENCE)
