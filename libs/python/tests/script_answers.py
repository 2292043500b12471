"""What the core answers in a script, as frames to the clients that play it."""

import collections
import json

from core_scripts import Process, split
from maniple._core import failures, frames, values, wire
from maniple._core.wire import key_of


class Answers:
    """The part of a player that is the agent. It knows the frames that clients sent, which the core passes on as they came."""

    def __init__(self, agent, zygote, title):
        self.agent, self.zygote, self.title = agent, zygote, title
        self.procs, self.ids, self.names = {}, {}, {}  # processes by name; tasks by name, and the reverse
        self.code, self.classes = {}, {}  # tables and payloads by job and name; methods and their table by class
        self.work, self.values = {}, {}  # frame, ID and shape by task; flags, format, references and payload by object
        self.made, self.streams = {}, set()  # what is known of actors, and of drivers, by name; tasks that give streams
        self.answers = collections.deque()  # what the core answers in this block and was not said yet
        self.workers, self.cores = 0, {}  # how many there were; the core's numbers of shapes, by process and task
        self.pending = set()  # processes and objects that come by themselves

    def until(self, there):
        """Says what the core answers until that is enough, or all is said."""
        while not there() and self.answers:
            self.say(self.answers.popleft())

    def need(self, there, what):
        self.until(there)
        assert there(), f"{what}, by all that the core has answered"

    def say(self, text):
        before, arrow, what = text.partition(" <- ")
        if not arrow:
            words = text.replace(":", " ").split()
            if words[0] == "kill" and words[1] != "worker":
                self.procs[words[1]].kill()
            elif words[0] == "close":
                self.procs[words[1]].peer.close()
            return
        kind, _, rest = what.partition(" ")
        kind = kind.rstrip(":")
        if kind == "Attached":
            return self.up(before, dict(w.split("=") for w in rest.split()))
        proc = self.procs.get(before)
        assert proc is not None, f"the script says {text!r} to who is not there"
        if proc.gone:  # the core does not know it yet
            return
        getattr(self, "say_" + kind.lower())(proc, rest)

    def up(self, name, told):
        """A driver or a worker attaches."""
        self.agent.credit, self.agent.job = tuple(map(int, told["credit"].split("/"))), int(told["job"])
        who = f"{self.title} {name}"
        if name in self.made:  # a driver
            self.zygote.fork(kind="driver", name=who)
            line = self.zygote.line(who)
            number = line.order("init", path=self.agent.path)
            peer = self.agent.peer()
            line.done(number)
        else:
            self.workers += 1
            self.zygote.fork(kind="worker", **{"with": {"name": who, "path": self.agent.path, "key": self.workers}})
            line, peer = self.zygote.line(who), self.agent.peer()
        self.procs[name] = Process(name, peer, line, self.agent.job)

    def say_function(self, proc, name):
        proc.peer.table("Function", *self.code[proc.job, name])

    def say_methods(self, proc, names):
        for methods, fields in self.classes.values():
            if names.split() == methods:
                proc.peer.table("Methods", fields)

    def say_shape(self, proc, number):
        """The shape of what this process is given next of this number."""
        for answer in self.answers:
            who, _, what = answer.partition(" <- ")
            words = what.split()
            if who == proc.name and words[0] in ("Submit", "Create", "Call"):
                break
        self.cores[proc.name, words[1]] = int(number)
        proc.peer.table("Shape", {**self.work[words[1]][2], "number": int(number)})

    def give(self, proc, rest):
        words, options = split(rest)
        frame, task, shape = self.work[words[0]]
        number = self.cores.get((proc.name, words[0]))
        if number is None:  # as what it was given before of the same shape
            number = next((n for (p, t), n in self.cores.items() if p == proc.name and self.work[t][2] == shape), 1)
        proc.given[words[0]], proc.had = True, True
        proc.tasks.pop(words[0], None)
        if frame.name == "CREATE":
            proc.has.add(words[0])  # an actor names itself
            return proc.peer.table("Create", {**frame.fields, "shape": number}, frame.payload)
        more = {"attempt": int(options.get("attempt", 0)), "shape": number}
        if frame.name == "CALL":
            more["incarnation"] = int(words[2].partition("#")[2])
        assert frame.fields.task == task
        proc.peer.send(getattr(wire, frame.name).pack(len(frame.payload), 0, *frame.fields._replace(**more)) + frame.payload)

    say_submit = say_call = say_create = give

    def say_result(self, proc, rest):
        name, _, rest = rest.partition(" ")
        task, index = name.rstrip("]").split("[")
        key, name = key_of(self.ids[task], int(index)), task if index == "0" else name
        words, flags, attempt = rest.split(" "), 0, 0
        while words[0] in ("last", "error", "elsewhere", "put") or words[0].startswith("attempt="):
            word = words.pop(0)
            flags |= {"last": wire.LAST, "error": wire.ERROR, "elsewhere": wire.LOCATED, "put": wire.NOT_TASK}.get(word, 0)
            attempt = int(word[8:]) if word[0] == "a" else attempt
        inside = []
        if words[0] == "with":
            words.pop(0)
            while words[0].endswith("]"):
                inside.append(words.pop(0).removesuffix("[0]"))
        text, made = " ".join(words), self.values.get(key)
        self.pending.discard((proc.name, name))
        if flags & wire.LOCATED:
            proc.peer.raw_result(key[:16], wire.RAW, b"", int(index), flags, (), attempt)
            proc.has.add(name)
            return
        if made is not None and bool(made[0] & wire.ERROR) == bool(flags & wire.ERROR):
            _, format, refs, payload = made
        elif flags & wire.ERROR:
            code, _, message = text.partition(": ")
            if code == "USER":  # another's, of which this is the consequence
                format, refs, payload = next((f, r, p) for g, f, r, p in self.values.values() if g & wire.ERROR and message.encode() in p)
            else:
                format, refs, payload = wire.FAILURE, 0, failures.plain(code, message.replace(" | ", "\n"), key[:16])
        else:
            assert text == '""', f"nobody has made the value {text} of {name}"
            format, refs, payload = wire.RAW, 0, b""
        proc.peer.send(wire.RESULT.pack(len(payload), 0, key, attempt, flags, format, refs, len(payload) - 24 * refs, 0, 0) + payload)
        self.heard(proc, name, inside, text, flags)

    def heard(self, proc, name, inside, text, flags):
        """A client has been sent a value: if it is one that it waits for, or that a driver has, it gets that."""
        task, _, index = name.rstrip("]").partition("[")
        if task in self.streams and proc.driver and not flags & wire.LAST:
            proc.line.done(proc.line.order("item", name=task, index=int(index or 0)))
            proc.has.add(name)
        if name in proc.asked:
            self.got(*proc.asked.pop(name), name, text, flags)
            proc.has.update(inside)
        elif proc.driver and task not in self.made:
            # The last result that is an error is that of all which are missing.
            also = [other for other in sorted(proc.has) if other.startswith(task + "[")] if flags & wire.LAST and flags & wire.ERROR else []
            for each in dict.fromkeys([name, *also]):
                if each in proc.has:
                    self.got(proc.line.order("get", name=each, inside=inside), proc.line, each, text, flags)
                    proc.has.update(inside)

    def got(self, number, line, name, text, flags):
        """What a client's get gives is what the core said."""
        answer = line.answer(number)
        if flags & wire.ERROR:
            assert text.replace(" | ", "\n") in answer.get("error", ""), f"get of {name} gives {answer}, and the core said {text}"
        else:
            assert "error" not in answer, answer["trace"]
            assert text in (f'"{answer["value"]}"', f"{len(answer['value'])} bytes"), f"get of {name} gives {answer['value']!r}, and the core said {text}"

    def say_ready(self, proc, rest):
        name, state, _ = rest.split(" ")
        task, index = name.rstrip("]").split("[")
        proc.peer.ready(key_of(self.ids[task], int(index)), {"There": wire.IS_READY, "None": 0, "Error": wire.IS_ERROR, "Lost": wire.IS_LOST}[state])
        asked = proc.asked.pop("ready " + (task if index == "0" else name), None)
        if asked:
            asked[1].done(asked[0])

    def say_credit(self, proc, rest):
        told = dict(w.split("=") for w in rest.split())
        proc.peer.credit(int(told["bytes"]), int(told["records"]))

    def say_cancel(self, proc, rest):
        name, recursive = rest.split()
        proc.peer.send(wire.CANCEL.pack(0, 0, self.ids[name], 0, int(recursive[-1])))

    def say_recall(self, proc, rest):
        proc.recalled.update(proc.given if rest == "-" else [rest])
        if rest == "-":  # the first one has begun
            self.line(proc, next(iter(proc.given)))
        proc.peer.send(wire.RECALL.pack(0, 0, wire.NO_TASK if rest == "-" else self.ids[rest]))

    def say_get(self, proc, rest):
        task, index = rest.rstrip("]").split("[")
        proc.peer.send(wire.GET.pack(0, 0, key_of(self.ids[task], int(index)), 0, wire.WANT_READY))

    def say_actorstate(self, proc, rest):
        name, phase = rest.split(" ")[:2]
        name, incarnation = name.split("#")
        number = getattr(frames, "ACTOR_PHASE_" + phase.rstrip(":").upper())
        proc.peer.table("ActorState", {"actor": wire.task_fields(self.ids[name]), "phase": number, "incarnation": int(incarnation), "reason": rest.partition(": ")[2]})

    def say_statereply(self, proc, rest):
        (asked, line), actor = proc.asked.pop("query"), ""
        mine, proc.naming = proc.naming, ""
        if rest.startswith("{"):
            reply = json.loads(rest)
            actor = next(n for n in self.made if self.made[n].get("name") == reply["actor"]["name"])
            reply["actor"].update(id=wire.task_text(self.ids[actor]), methods=self.classes[self.made[actor]["cls"]][1]["names"], function=str(self.work[actor][0].fields["function"]))
            proc.peer.table("StateReply", {}, json.dumps(reply).encode(), proc.corr)
        else:
            proc.peer.table("StateReply", {"error": rest}, b"", proc.corr)
        answer = line.answer(asked)
        if mine not in ("", actor):
            assert answer.get("error", "").startswith("NAME_TAKEN"), answer
            proc.has.discard(mine)  # its handle is gone at once
            return
        assert ("error" in answer) == (not actor), answer
        if actor:
            proc.has.add(actor)

    def say_shutdown(self, proc, rest):
        proc.peer.table("Shutdown", {"reason": rest.removeprefix(": ")})
