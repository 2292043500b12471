"""What a call costs in the SDK alone: an agent in another process answers every task with None.

    python tests/measure.py [TASKS]

Prints CPU of this process per task, and tasks per second, for tasks that are all submitted and then got, one
after the other, and calls of an actor.
"""

import os
import resource
import socket
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import maniple  # noqa: E402
from maniple._core import frames, values, wire  # noqa: E402


def echo(path):
    """The agent: one connection, no threads."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    sock, _ = listener.accept()
    none = values.encode(None).payload
    answers = {frames.HELLO: wire.table("Welcome", {"wire_version": frames.VERSION})}
    answers[frames.ATTACH] = wire.table("Attached", {"agent": 1, "process": 1, "node": "n", "credit_bytes": 1 << 40, "credit_records": 1 << 31, "job": 1})
    work, rest = (frames.SUBMIT, frames.CALL), b""
    while True:
        data = sock.recv(1 << 16)
        if not data:
            return
        rest, at, out = rest + data, 0, []
        while len(rest) - at >= 32:
            length, body, kind = wire.HEADER.unpack_from(rest, at)[:3]
            if at + 32 + length > len(rest):
                break
            if kind in work:
                out.append(wire.RESULT.pack(len(none), 0, rest[at + 32 : at + 48] + b"\0\0\0\0", 0, wire.LAST, wire.PICKLE, 0, len(none), 0, 0) + none)
            elif kind in answers:
                out.append(answers[kind])
            at += 32 + length
        rest = rest[at:]
        sock.sendall(b"".join(out))


@maniple.remote
def nothing():
    pass


@maniple.remote
class Actor:
    def nothing(self):
        pass


def measure(name, count, call):
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    call()
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: {cpu / count * 1e6:.2f} us of CPU each, {count / took:,.0f} a second")


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "agent.sock")
        child = os.fork()
        if child == 0:
            try:
                echo(path)
            finally:
                os._exit(0)
        while not os.path.exists(path):
            time.sleep(0.01)
        maniple.init(path)
        actor = Actor.remote()
        maniple.get(nothing.remote())
        for _ in range(3):
            measure("tasks, all submitted, then all got", count, lambda: maniple.get([nothing.remote() for _ in range(count)]))
        measure("tasks with arguments (7, 'abc')", count, lambda: maniple.get([nothing.remote(7, "abc") for _ in range(count)]))
        measure("tasks one by one", count // 10, lambda: [maniple.get(nothing.remote()) for _ in range(count // 10)])
        measure("calls of an actor", count, lambda: maniple.get([actor.nothing.remote() for _ in range(count)]))
        maniple.shutdown()
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
