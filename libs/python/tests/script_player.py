"""Plays a world of a script: what its lines have clients do, and whether they send what the script says."""

import json

import scripted
from core_scripts import split
from maniple._core import failures, values, wire
from script_answers import Answers
from script_client import NAMESPACE, WAITING

SAID_ONCE = ("FUNCTION", "SHAPE", "METHODS")  # a client says them by itself before it needs them


class Player(Answers):
    """Plays one world."""

    def __init__(self, agent, zygote, title):
        super().__init__(agent, zygote, title)
        self.results, self.sent, self.here = {}, 0, ""

    def play(self, blocks):
        self.zygote.worlds += 1
        self.agent.number = self.zygote.worlds  # so that no ID is that of another world
        try:
            for block in blocks:
                self.answers.extend(block.answers)
                for self.here in block.commands:
                    words, options = split(self.here)
                    on = getattr(self, "on_" + words[0], None)
                    assert on, "this line has no meaning for a client: put the word frames into its block"
                    on(words, options)
                self.here = "----"
                self.until(lambda: False)
            self.here = "the end"
            for proc in self.procs.values():
                if not proc.gone:
                    self.quiet(proc)
        except BaseException as e:
            raise AssertionError(f"{self.title}, block at line {block.number}, {self.here!r}: {type(e).__name__}: {e}") from e
        finally:
            for proc in self.procs.values():
                proc.kill()
        return self.sent

    def quiet(self, proc):
        """A client has nothing more to say."""
        proc.line.done(proc.line.order("nothing"))
        while not proc.peer.inbox.empty():
            frame = proc.peer.inbox.get()
            assert frame is None or frame.name in (*SAID_ONCE, "STARTED", "RAN"), f"{proc.name} sent {self.normal(proc, frame, '?')}, of which the script knows nothing"

    # What clients send.

    def next(self, proc):
        """What a client sends next, but for what it says by itself."""
        while True:
            frame = proc.peer.take()
            f = frame.fields
            if frame.name == "FUNCTION":
                name, number = f["name"].rpartition(".")[2], int.from_bytes(bytes(f["hash"])[:8], "little")
                proc.functions[number] = name
                self.code[proc.job, name] = f, frame.payload
            elif frame.name == "METHODS":
                self.classes[proc.functions[f["function"]]][1].update(f)
            elif frame.name == "SHAPE":
                proc.shapes[f["number"]] = f
            elif frame.name not in ("STARTED", "RAN"):
                return frame

    def expect(self, proc, kind, mints="", /, **want):
        """A client sends this now. mints: the name of what it mints thereby."""
        frame = self.next(proc)
        self.sent += 1
        got = self.normal(proc, frame, mints)
        assert (frame.name, got) == (kind, want), f"{proc.name} sent {frame.name} {got}, and by the script {kind} {want}"
        return frame

    def called(self, task):
        return "" if task == wire.NO_TASK else self.names.get(bytes(task), wire.task_text(task))

    def object(self, key):
        index = wire.INDEX.unpack_from(key, 16)[0]
        return self.called(key[:16]) + (f"[{index}]" if index else "")

    def mint(self, name, task):
        assert task not in self.names, f"{name} has the ID of {self.names[task]}"
        self.ids[name], self.names[task] = task, name

    def normal(self, proc, frame, name):
        """What of a frame a script says, in its names."""
        f, of = frame.fields, lambda count, begin=0: [self.object(frame.payload[at : at + 20]) for at in range(24 * begin, 24 * (begin + count), 24)]
        if frame.name == "SUBMIT":
            self.mint(name, f.task)
            shape = proc.shapes[f.shape]
            self.work[name] = frame, f.task, shape
            return {"function": proc.functions[f.function], "deps": of(f.deps), "refs": of(f.refs, f.deps), "returns": f.returns, "parent": self.called(f.parent), "shape": asks(shape)}
        if frame.name == "CREATE":
            self.mint(name, wire.task_bytes(f["actor"]))
            self.work[name] = frame, self.ids[name], proc.shapes[f["shape"]]
            deps, refs = f.get("deps") or 0, f.get("refs") or 0
            return {"function": proc.functions[f["function"]], "deps": of(deps), "refs": of(refs, deps), "parent": self.called(wire.task_bytes(f.get("parent"))),
                    "resources": asks(proc.shapes[f["shape"]])["resources"], "name": f.get("name") or "", "namespace": f.get("namespace_") or "",
                    "restarts": f.get("max_restarts") or 0, "retries": f.get("max_task_retries") or 0, "detached": bool(f.get("detached")),
                    "concurrency": f.get("concurrency"), "pending": f.get("max_pending"), "unordered": bool(f.get("out_of_order"))}  # fmt: skip
        if frame.name == "CALL":
            self.mint(name, f.task)
            self.work[name] = frame, f.task, proc.shapes[f.shape]
            actor = self.called(f.actor)
            method = self.classes[self.made[actor]["cls"]][1]["names"][f.method].partition("\t")[0]
            return {"actor": actor, "method": method, "deps": of(f.deps), "refs": of(f.refs, f.deps), "returns": f.returns, "parent": self.called(f.parent), "retries": asks(proc.shapes[f.shape])["retries"]}
        if frame.name == "PUT":
            self.mint(name, f.object[:16])
            self.values[f.object] = wire.NOT_TASK, f.format, f.refs, frame.payload
            return {"refs": of(f.refs)}
        if frame.name == "RESULT":
            self.values[f.object] = f.flags, f.format, f.refs, frame.payload
            error = failures.load(frame.payload) if f.flags & wire.ERROR else None
            value = getattr(error, "message", str(error)) if error else values.decode(f.format, frame.payload) if not f.refs and frame.payload else None
            value = value if value is None or len(value) <= 40 else len(value)
            return {"object": self.object(f.object), "last": bool(f.flags & wire.LAST), "error": bool(error), "refs": of(f.refs), "attempt": f.attempt, "value": value}
        if frame.name == "STATE_QUERY":
            proc.corr = frame.corr
            return {"what": f["what"], "id": (f.get("id") or "").removeprefix(NAMESPACE)}
        if frame.name == "GOODBYE":
            return {}
        if frame.name == "AWAITS":
            return {"task": self.called(f.task), "of": of(f.objects), "timed": bool(f.timed)}
        named = {"object": self.object, "task": self.called}
        return {k: named[k](v) if k in named else v for k, v in f._asdict().items() if k not in ("deadline",)}

    # What a line has a client do.

    def on_core(self, words, options):
        self.auto = "auto" in words

    def nothing(self, words, options):
        """Of the core alone."""

    on_counts = on_free = on_explain = on_grant = on_failed = on_wait = on_quiet = on_up = nothing

    def on_driver(self, words, options):
        self.made[words[1]] = {}
        self.need(lambda: words[1] in self.procs, f"{words[1]} is not attached")

    def proc(self, name):
        self.need(lambda: name in self.procs, f"{name} is not attached")
        return self.procs[name]

    def on_function(self, words, options):
        if "class" in words:
            self.classes.setdefault(words[2], (["reads"], {}))

    def on_methods(self, words, options):
        self.classes[words[2]] = words[3:], {}

    def on_shape(self, words, options):
        amounts = dict(pair.split(":") for pair in words[3].split(",")) if len(words) > 3 and ":" in words[3] else {}
        amounts = {name: float(amount) for name, amount in amounts.items()}
        self.proc(words[1]).declared[words[2]] = {
            "resources": {n: int(a * 10_000) for n, a in amounts.items() if a}, "retries": int(options.get("retries", 3)),
            "exceptions": "exceptions" in words, "calls": int(options.get("calls", 0)), "name": options.get("name", ""),
        }  # fmt: skip
        assert not {"env", "group", "bundle", "node"} & set(options), "such a shape is not made here"

    def line(self, proc, parent):
        """Where a process takes orders: in a task of it, if it is a worker's."""
        if proc.driver:
            return proc.line
        self.need(lambda: proc.given, f"{proc.name} runs nothing")
        task = parent or next((t for t in proc.given if t in proc.tasks), "") or next(iter(proc.given))
        self.need(lambda: task in proc.given, f"{proc.name} has not been given {task}")
        if task not in proc.tasks:
            proc.tasks[task] = line = self.zygote.line(self.ids[task].hex())
            frame = self.work[task][0]
            f = frame.fields
            deps, refs = (f.get("deps") or 0, f.get("refs") or 0) if frame.name == "CREATE" else (f.deps, f.refs)
            inside = [self.object(key) for key in scripted.keys(frame, deps + refs)[deps:]]
            line.order("named", names=inside)
            proc.has.update(inside)
        return proc.tasks[task]

    def hold(self, proc, options, *names):
        """Goes on until a client has what it is to name."""
        self.line(proc, options.get("parent"))
        self.need(lambda: proc.has >= {*names}, f"{proc.name} does not have all of {names}")

    def order(self, proc, parent, do, **with_):
        """Has a client do something that does not wait."""
        line = self.line(proc, parent)
        number = line.order(do, **with_)
        if do in WAITING:
            return number, line
        line.done(number)
        return None

    def on_submit(self, words, options):
        proc, name = self.proc(words[1]), words[2]
        shape = proc.declared[options.get("shape", "1")]
        deps, refs, returns, stream = options.get("deps", "").split(), options.get("refs", "").split(), int(options.get("returns", 1)), "stream" in words
        self.hold(proc, options, *deps, *refs)
        self.order(proc, options.get("parent"), "submit", name=name, function=words[3], deps=deps, refs=refs, value=options.get("value", ""), stream=stream,
                   options={**resources(shape["resources"]), "max_retries": shape["retries"], "retry_exceptions": shape["exceptions"], "max_calls": shape["calls"],
                            "name": shape["name"], **({} if stream else {"num_returns": returns})})  # fmt: skip
        if stream:
            self.streams.add(name)
        else:
            proc.has.update(f"{name}[{i}]" if i else name for i in range(returns))
        self.pending.add((proc.name, name))
        self.expect(proc, "SUBMIT", name, function=words[3], deps=deps, refs=refs, returns=wire.STREAM if stream else returns, parent=options.get("parent", ""), shape=shape)

    def on_create(self, words, options):
        proc, name, cls = self.proc(words[1]), words[2], words[3]
        shape = proc.declared[options.get("shape", "2")]
        deps, refs = options.get("deps", "").split(), options.get("refs", "").split()
        count = {k: int(options.get(k, d)) for k, d in (("restarts", 0), ("retries", 0), ("pending", -1), ("concurrency", 1))}
        self.made[name] = {"cls": cls, "name": options.get("name")}
        given = {"max_restarts": count["restarts"], "max_task_retries": count["retries"], "max_pending_calls": count["pending"], "max_concurrency": count["concurrency"], "name": options.get("name"),
                 "namespace": options.get("space"), "lifetime": "detached" if "detached" in words else None, "allow_out_of_order_execution": "unordered" in words}  # fmt: skip
        number, line = self.order(proc, options.get("parent"), "create", name=name, cls=cls, methods=self.classes[cls][0], deps=deps, refs=refs, value=options.get("value", ""),
                                  options={**resources(shape["resources"], 0), **{k: v for k, v in given.items() if v is not None}})  # fmt: skip
        self.expect(proc, "CREATE", name, function=cls, deps=deps, refs=refs, parent=options.get("parent", ""), resources=shape["resources"], name=options.get("name", ""),
                    namespace=options.get("space", NAMESPACE), **count, detached="detached" in words, unordered="unordered" in words)  # fmt: skip
        self.until(lambda: "query" not in proc.asked)
        if options.get("name"):  # it asks whose the name is: the next line
            proc.asked["query"], proc.naming = (number, line), name
        else:
            line.done(number)
        proc.has.add(name)

    def on_call(self, words, options):
        proc, name, actor = self.proc(words[1]), words[2], words[3]
        deps, refs = options.get("deps", "").split(), options.get("refs", "").split()
        self.hold(proc, options, actor, *deps, *refs)
        method, retries = self.classes[self.made[actor]["cls"]][0][int(words[4])], proc.declared[options.get("shape", "2")]["retries"]
        self.order(proc, options.get("parent"), "call", name=name, actor=actor, method=method, deps=deps, refs=refs, value=options.get("value", ""), options={"max_task_retries": retries})
        proc.has.add(name)
        self.expect(proc, "CALL", name, actor=actor, method=method, deps=deps, refs=refs, returns=1, parent=options.get("parent", ""), retries=retries)

    def on_put(self, words, options):
        proc, refs = self.proc(words[1]), options.get("refs", "").split()
        self.hold(proc, options, *refs)
        self.order(proc, options.get("parent"), "put", name=words[2], refs=refs, value=options.get("value", ""))
        proc.has.add(words[2])
        self.expect(proc, "PUT", words[2], refs=refs)

    def on_result(self, words, options):
        proc, task = self.proc(words[1]), words[2]
        self.need(lambda: task in proc.given, f"{proc.name} has not been given {task}")
        line, refs, value = self.line(proc, task), options.get("refs", "").split(), options.get("value", "")
        size, error = int(options.get("size", 0)), "error" in words
        index, more, attempt = int(options.get("index", 0)), "more" in words, int(options.get("attempt", 0))
        streams = task in self.streams
        if task in self.made and not error or streams and not more:
            value = None
        if error:
            line.order("raise", value=value)
        elif streams:
            line.order("yield" if more else "return", value=value)
        else:
            self.results.setdefault(task, []).append("x" * size if size else value)
            if more:  # all come together
                return
            line.order("return", refs=refs, values=self.results[task])
        results = self.results.pop(task, None) or [value]
        if not more:
            proc.given.pop(task, None)
            del proc.tasks[task]
        for i, each in enumerate(results, index + 1 - len(results)):
            self.expect(proc, "RESULT", object=f"{task}[{i}]" if i else task, last=i == index and not more, error=error, refs=refs, attempt=attempt, value=size or (None if refs else each))

    def on_get(self, words, options):
        proc, name = self.proc(words[1]), words[2]
        self.hold(proc, options, name)
        ready = "ready" in words
        self.until(lambda: (proc.name, name) not in self.pending)  # nobody asks for what comes by itself
        order = self.order(proc, options.get("parent"), *(("wait",) if ready else ("get",)), **({"of": [name]} if ready else {"name": name}))
        proc.asked[("ready " if ready else "") + name] = order
        self.expect(proc, "GET", object=name, want=wire.WANT_READY if ready else wire.WANT_VALUE)

    def on_blocked(self, words, options):
        """for=NAME: what it waits for, if it has not asked for it; timeout=SECONDS: it gives up before it comes."""
        proc = self.proc(words[1])
        if "for" in options:
            order = self.order(proc, words[2], "get", name=options["for"], timeout=float(options["timeout"]) if "timeout" in options else None)
            if "timeout" in options:
                proc.late = order
            else:
                proc.asked[options["for"]] = order
        timed = "timeout" in options
        waits = [options["for"]] if "for" in options else [name.removeprefix("ready ") for name in proc.asked]
        self.expect(proc, "AWAITS", task=words[2], of=[] if timed else waits, timed=timed)

    def on_unblocked(self, words, options):
        proc = self.proc(words[1])
        self.until(lambda: not proc.asked or proc.late)
        self.expect(proc, "UNBLOCKED", task=words[2])
        if proc.late:
            (number, line), proc.late = proc.late, None
            assert "GetTimeoutError" in line.answer(number)["trace"]

    def on_release(self, words, options):
        proc, name = self.proc(words[1]), words[2].removesuffix("[0]")
        self.until(lambda: name in proc.has and name not in proc.asked)
        if name in proc.has:  # else it let go of it by itself
            proc.line.done(proc.line.order("release", name=name))
            proc.has.discard(name)
        self.expect(proc, "RELEASE", object=name, deliveries=int(options.get("seen", 0)))

    def on_cancel(self, words, options):
        proc, name, force, recursive = self.proc(words[1]), words[2], int(options.get("force", 0)), "recursive" in words
        if name in self.made:
            self.order(proc, options.get("parent"), "kill", name=name, restart=force == 2)
        elif force:
            number, line = self.order(proc, options.get("parent"), "force", name=name, recursive=recursive)
            self.expect(proc, "STATE_QUERY", what="kind", id=wire.task_text(self.ids[name]))
            proc.peer.table("StateReply", {}, json.dumps({"version": 1, "kind": "task"}).encode(), proc.corr)
            line.done(number)
        else:
            self.order(proc, options.get("parent"), "cancel", name=name, force=False, recursive=recursive)
        self.expect(proc, "CANCEL", task=name, force=force, recursive=int(recursive))

    def on_recalled(self, words, options):
        """A worker answers a Recall by itself."""
        proc = self.proc(words[1])
        self.until(lambda: words[2] in proc.recalled)
        proc.recalled.discard(words[2])
        self.expect(proc, "RECALLED", task=words[2], started=int("started" in words))
        proc.given.pop(words[2], None)

    def on_query(self, words, options):
        proc = self.proc(words[1])
        space, _, name = options["id"].rpartition("/")
        if not proc.naming:
            self.until(lambda: "query" not in proc.asked)
            proc.asked["query"] = self.order(proc, options.get("parent"), "find", actor=next((n for n in self.made if self.made[n].get("name") == name), ""), name=name, namespace=space or None)
        self.expect(proc, "STATE_QUERY", what="actor", id=options["id"])

    def on_gone(self, words, options):
        proc = self.proc(words[1])
        self.until(lambda: proc.gone or not proc.driver and proc.had)  # a driver has been told all, a worker has had its task
        proc.kill()


def asks(shape):
    """A table Shape as a script says it."""
    return {"resources": {r["name"]: r["amount"] for r in shape.get("resources") or () if r["amount"]}, "retries": shape.get("retries") or 0,
            "exceptions": bool(shape.get("retry_exceptions")), "calls": shape.get("max_calls") or 0, "name": shape.get("name") or ""}  # fmt: skip


def resources(amounts, cpus=None):
    """The options that ask for these."""
    amounts = {name: amount / 10_000 for name, amount in amounts.items()}
    known = {"num_cpus": amounts.pop("CPU", 0), "num_gpus": amounts.pop("GPU", 0), "memory": amounts.pop("memory", 0), "resources": amounts}
    return {k: v for k, v in known.items() if v or k == "num_cpus"}
