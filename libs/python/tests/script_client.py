"""The processes of the core's scripts: real clients that do what a script's lines say, one order at a time.

Started as a program this forks a process for each line of its input. Each has a line to the script's player: JSON
of an order in, JSON of what came of it out. A driver takes orders on its main thread; a worker works, and each task
that runs in it has a line of its own, so that orders are carried out where the user's code would do them.
"""

import json
import os
import signal
import socket
import sys
import threading
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAMESPACE = "scripts"
names = {}  # what this process has, by the script's names: references and handles
streams = {}  # generators, by task
_functions, _classes = {}, {}


class Line:
    """The line to the player. who: whose it is, as the player looks for it."""

    def __init__(self, who):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(os.environ["MANIPLE_SCRIPT"])
        self.file, self.lock = sock.makefile("rwb"), threading.Lock()
        self.answer(who=who, pid=os.getpid())

    def answer(self, **fields):
        with self.lock:
            self.file.write(json.dumps(fields).encode() + b"\n")
            self.file.flush()

    def orders(self):
        """Each order that comes. A cancel of the task that waits here is nothing to it: it goes on."""
        while True:
            try:
                text = self.file.readline()
            except KeyboardInterrupt:
                continue
            if not text:
                return
            yield json.loads(text)

    def carry_out(self, order):
        try:
            self.answer(id=order["id"], value=DO[order["do"]](**order["with"]))
        except BaseException as e:
            kind = type(e)
            self.answer(id=order["id"], error=f"{getattr(kind, 'code', '') or kind.__name__}: {getattr(e, 'message', '') or e}", trace=traceback.format_exc())


def named(name):
    """What this process calls so; what it has no name for is the actor that it is."""
    import maniple

    return names[name] if name in names else maniple.get_runtime_context().current_actor


# The user's code: what it does is what the script says.


def play(args):
    """The body of every task: gives what it is to return."""
    from maniple._core.context import running

    line = Line(running.get().task.hex())
    for order in line.orders():
        if order["do"] == "return":
            values = [_value(value, order["with"]["refs"]) for value in order["with"]["values"]]
            return values if len(values) > 1 else values[0]
        if order["do"] == "raise":
            raise ValueError(order["with"]["value"])
        if order["do"] == "named":
            names.update(zip(order["with"]["names"], args[-2]))
            continue
        line.carry_out(order)
    os._exit(1)


def play_stream(args):
    """The body of a task that gives a stream."""
    from maniple._core.context import running

    line = Line(running.get().task.hex())
    for order in line.orders():
        if order["do"] == "return":
            return
        if order["do"] == "yield":
            yield order["with"]["value"]


def _value(value, refs):
    return [[named(name) for name in refs], value] if refs else value


def _function(name, stream, calls):
    import maniple

    if (name, stream, calls) not in _functions:

        def f(*args):
            import script_client

            return script_client.play(args)

        def g(*args):
            import script_client

            yield from script_client.play_stream(args)

        made = g if stream else f
        made.__name__ = made.__qualname__ = name
        made.__module__ = "__main__"  # sent by value, as a script's own
        _functions[name, stream, calls] = maniple.remote(max_calls=calls)(made)
    return _functions[name, stream, calls]


def _class(name, methods):
    import maniple

    if name not in _classes:

        def body(self, *args):
            import script_client

            return script_client.play(args)

        _classes[name] = maniple.remote(type(name, (), {"__module__": "__main__", "__init__": body, **dict.fromkeys(methods, body)}))
    return _classes[name]


# The orders.


def init(path):
    import maniple

    maniple.init(path, namespace=NAMESPACE)


def submit(name, function, options, deps, refs, value, stream):
    made = _function(function, stream, options.pop("max_calls")).options(**options).remote(*[named(d) for d in deps], [named(r) for r in refs], value)
    if stream:
        streams[name] = made
    elif isinstance(made, list):
        names.update((f"{name}[{i}]" if i else name, ref) for i, ref in enumerate(made))
    elif made is not None:
        names[name] = made


def create(name, cls, methods, options, deps, refs, value):
    names[name] = _class(cls, methods).options(**options).remote(*[named(d) for d in deps], [named(r) for r in refs], value)


def call(name, actor, method, options, deps, refs, value):
    made = getattr(named(actor), method).options(**options).remote(*[named(d) for d in deps], [named(r) for r in refs], value)
    names[name] = made


def put(name, refs, value):
    import maniple

    names[name] = maniple.put(_value(value, refs) if refs else value)


def get(name, inside=(), timeout=None):
    """inside: what the references in the value are called. Gives its text."""
    import maniple

    value = maniple.get(names[name], timeout=timeout)
    if inside:
        refs, value = value
        names.update(zip(inside, refs))
    return value or ""


def item(name, index):
    """The next reference of a stream."""
    names[f"{name}[{index}]" if index else name] = next(streams[name])


def wait(of):
    import maniple

    ready, rest = maniple.wait([names[n] for n in of], num_returns=len(of), fetch_local=False)
    return f"{len(ready)} of {len(of)}"


def release(name):
    from maniple._core import session

    del names[name]
    session.current().connection.flush()  # which tells of it now, as whatever else is sent would


def cancel(name, force, recursive):
    import maniple

    maniple.cancel(names[name], force=force, recursive=recursive)


def kill(name, restart):
    import maniple

    maniple.kill(named(name), no_restart=not restart)


def find(actor, name, namespace):
    import maniple

    names[actor or "?"] = maniple.get_actor(name, namespace)


def force(name, recursive):
    """A cancel that asks first what it is that it ends."""
    cancel(name, True, recursive)


def nothing():
    pass


DO = {f.__name__: f for f in (init, submit, create, call, put, get, item, wait, release, cancel, force, kill, find, nothing)}
WAITING = ("get", "wait", "find", "item", "create", "force")  # these may wait for what comes later


def drive(name):
    line = Line(name)
    for order in line.orders():
        if order["do"] in WAITING:
            threading.Thread(target=line.carry_out, args=(order,), daemon=True).start()
        else:
            line.carry_out(order)


def work(name, path, key):
    from maniple import _worker

    line = Line(name)

    def take():
        for order in line.orders():
            line.carry_out(order)

    threading.Thread(target=take, daemon=True).start()
    _worker.run(_worker.attach(path, key), _worker.Settings({"namespace": NAMESPACE}, None))


def main():
    import cloudpickle  # noqa: F401
    import maniple
    from maniple import _actor_host, _worker  # noqa: F401

    sys.modules["script_client"] = sys.modules["__main__"]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for text in sys.stdin.buffer:
        start = json.loads(text)
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            drive(start["name"]) if start["kind"] == "driver" else work(**start["with"])
        finally:
            os._exit(0)


if __name__ == "__main__":
    main()
