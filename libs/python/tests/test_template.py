"""The template process: what it imports, what it refuses, what it forks."""

import glob
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from maniple import _template, _worker
from maniple._core import code, twin, values, wire
from relay import ROOT
from scripted import PATIENCE, Agent, Peer


def start(agent, directory, *arguments, **environment):
    env = {**os.environ, "MANIPLE_ADDRESS": agent.path, "MANIPLE_WORKER": "3", "PYTHONPATH": os.pathsep.join([ROOT, str(directory), os.environ.get("PYTHONPATH", "")]), **environment}
    return subprocess.Popen([sys.executable, "-m", "maniple._template", *arguments], env=env, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def agent(tmp_path):
    made = Agent(tmp_path)
    yield made
    made.close()


def test_it_forks_tells_and_ends(agent, tmp_path):
    process = start(agent, tmp_path)
    try:
        template = agent.peer()
        assert (int(template.attach["kind"]), template.attach["worker"], template.attach["pid"]) == (3, 3, process.pid)
        template.table("Fork", {"key": 11, "env": ["MANIPLE_X=1", "PATH"]})
        worker = agent.peer()
        assert (int(worker.attach["kind"]), worker.attach["worker"]) == (2, 11)
        state = template.take("WORKER_STATE").fields
        assert (state["key"], int(state["phase"]), state["pid"]) == (11, 1, worker.attach["pid"])
        with open(f"/proc/{state['pid']}/stat") as f:
            assert f.read().rpartition(") ")[2].split()[1] == str(process.pid)
        os.kill(state["pid"], signal.SIGKILL)
        ended = template.take("WORKER_STATE").fields
        assert (ended["key"], int(ended["phase"]), ended["signal"]) == (11, 2, 9) and ended["max_rss"] > 0
        template.close()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(twin.fast is None, reason="without the extension workers attach by themselves")
def test_a_worker_that_is_born_attached_says_a_word_before_it_works(agent, tmp_path):
    process = start(agent, tmp_path)
    try:
        template = agent.peer()
        assert template.attach["born"]
        ours, theirs = socket.socketpair()
        attached = {"agent": 7, "process": 9, "node": "n1", "cluster": "test", "credit_bytes": 1 << 20, "credit_records": 100, "job": 1, "inline_limit": 1 << 20}
        socket.send_fds(template.sock, [wire.table("Fork", {"key": 5, "env": [], "attached": attached})], [theirs.fileno()])
        theirs.close()
        worker = Peer(agent, ours, 9)
        agent.peers.append(worker)
        threading.Thread(target=worker.read, daemon=True).start()
        word = worker.take()
        assert word.name == "STARTED" and word.fields.task == wire.NO_TASK
        worker.table("Shutdown", {"reason": "the test is over"})
        assert worker.gone.wait(PATIENCE)
        template.close()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("what,words", [
    ("import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", "threads run"),
    ("import socket; keep = socket.socket()", "socket"),
    ("raise RuntimeError('not here')", "not here"),
])  # fmt: skip
def test_a_module_that_leaves_more_than_imports_is_named_and_left_out(agent, tmp_path, what, words):
    (tmp_path / "dirty.py").write_text(what + "\n")
    (tmp_path / "clean.py").write_text("import os\nopen(os.environ['MARK'], 'a').write('clean ')\n")
    process = start(agent, tmp_path, "dirty", "clean", MARK=str(tmp_path / "mark"))
    try:
        template = agent.peer()
        assert "clean" in (tmp_path / "mark").read_text()
        template.table("Fork", {"key": 1, "env": []})
        agent.peer().close()  # the worker has the same stderr
        template.close()
        assert process.wait(PATIENCE) == 0
        said = process.stderr.read()
        assert "template: " in said and "dirty" in said and words in said and "clean" not in said
    finally:
        process.kill()
        process.communicate()


def test_a_second_template_forks_once_it_has_imported(agent, tmp_path):
    born, seen = tmp_path / "born", tmp_path / "environment"
    (tmp_path / "slow.py").write_text(textwrap.dedent(f"""
        import os
        os.register_at_fork(after_in_child=lambda: open({str(born)!r}, "a").write(f"{{os.getpid()}} "))
        open({str(seen)!r}, "w").write(repr([os.environ.get(n) for n in ("MANIPLE_PRELOAD", "MANIPLE_MARK_NODE")]))
    """))
    process = start(agent, tmp_path, MANIPLE_PRELOAD="slow,--without=slow,no name", MANIPLE_MARK_NODE="n7")
    try:
        first = agent.peer()
        assert first.attach["pid"] == process.pid
        first.table("Fork", {"key": 1, "env": []})
        second = next(p for p in (agent.peer(), agent.peer()) if int(p.attach["kind"]) == 3)  # the other is the worker
        assert second.attach["worker"] == 3 and second.attach["pid"] != process.pid and seen.read_text() == "[None, 'n7']"
        second.table("Fork", {"key": 2, "env": []})
        worker = agent.peer()
        assert worker.attach["worker"] == 2 and born.read_text().split() == [str(worker.attach["pid"])]
        for peer in (first, second):
            peer.close()
        assert process.wait(PATIENCE) == 0
        end = time.monotonic() + PATIENCE
        while os.path.exists(f"/proc/{second.attach['pid']}/fd/0") and time.monotonic() < end:
            time.sleep(0.01)
        assert not os.path.exists(f"/proc/{second.attach['pid']}/fd/0")
    finally:
        process.kill()
        process.communicate()


def in_fresh(code, python=sys.executable):
    return subprocess.run([python, "-c", textwrap.dedent(code)], env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("module,value", [
    ("random", "random.random()"), ("multiprocessing.process", "multiprocessing.process.current_process().authkey"), ("numpy.random", "numpy.random.rand()"),
])  # fmt: skip
def test_children_get_their_own_randomness(module, value):
    pytest.importorskip(module)
    done = in_fresh(f"""
        import os, {module}
        from maniple import _template
        def child():
            read, write = os.pipe()
            if os.fork() == 0:
                _template.reseed()
                os.write(write, repr({value}).encode())
                os._exit(0)
            os.close(write)
            return os.fdopen(read).read()
        a, b = child(), child()
        assert a and b and a != b, (a, b)
    """)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(twin.fast is None, reason="the extension asks the kernel")
def test_large_memory_is_put_into_huge_pages_and_stays_what_it_is():
    done = in_fresh("""
        import os, mmap, sys
        from maniple import _template
        from maniple._core import twin
        def huge():
            with open("/proc/self/smaps") as f:
                return sum(int(line.split()[1]) for line in f if line.startswith("AnonHugePages:"))
        full, empty, seed = mmap.mmap(-1, 24 << 20, mmap.MAP_PRIVATE), mmap.mmap(-1, 48 << 20, mmap.MAP_PRIVATE), os.urandom(1 << 20)
        full.madvise(mmap.MADV_DONTDUMP)  # beside one another two that are alike would be one
        full.madvise(mmap.MADV_NOHUGEPAGE), empty.madvise(mmap.MADV_NOHUGEPAGE)  # as they are filled
        full[:] = seed * 24
        empty[: 1 << 20] = seed
        full.madvise(mmap.MADV_HUGEPAGE), empty.madvise(mmap.MADV_HUGEPAGE)
        before = huge()
        _template.compact()
        grown = huge() - before
        assert full[:] == seed * 24 and empty[: 1 << 20] == seed and not any(empty[1 << 20 :: 4096])
        print(grown, twin.fast.huge(0, 4 << 20), twin.fast.huge(1, 2))
    """)
    assert done.returncode == 0, done.stderr
    grown, nowhere, nothing = done.stdout.split()
    assert (nowhere, nothing) == ("False", "False") and int(grown) < 40 << 10  # the kernel may add one by itself
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release >= (6, 1) and os.path.exists("/sys/kernel/mm/transparent_hugepage/enabled"):
        assert int(grown) >= 16 << 10


def python_with_torch():
    """This Python, or that of the environment in which the demo's ranks run; None if neither has torch."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for python in [sys.executable, *glob.glob(os.path.join(cache, "maniple", "python-demo-*", "bin", "python"))]:
        if subprocess.run([python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"]).returncode == 0:
            return python
    return None


def test_a_two_thread_matmul_in_a_child_of_torch():
    python = python_with_torch()
    if python is None:
        pytest.skip("needs torch")
    done = in_fresh("""
        import os, signal
        os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
        import torch
        from maniple import _template
        assert _template.unfit(set(_template.descriptors()), 1) is None
        if os.fork() == 0:
            signal.alarm(10)
            os.environ["OMP_NUM_THREADS"] = "2"
            _template.reseed(), _template.set_threads(_template.pools())
            assert torch.get_num_threads() == 2
            torch.rand(500, 500) @ torch.rand(500, 500)
            os._exit(0)
        assert os.wait()[1] == 0
    """, python)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_environment_of_a_child(monkeypatch):
    monkeypatch.setenv("GOES", "1")
    monkeypatch.setenv("STAYS", "1")
    environment = _template.Environment()
    environment.take(["GOES", "A=b=c", "EMPTY="])
    assert "GOES" not in os.environ and (os.environ["A"], os.environ["EMPTY"], os.environ["STAYS"]) == ("b=c", "", "1")
    environment.take(["STAYS=2", "A=b=c"])  # of the next child, who has nothing of what only the one before had
    assert [os.environ.get(name) for name in ("GOES", "A", "EMPTY", "STAYS")] == ["1", "b=c", None, "2"]
    environment.take([])
    assert [os.environ.get(name) for name in ("GOES", "A", "EMPTY", "STAYS")] == ["1", None, None, "1"]


def surroundings():
    import os
    import sys

    return [os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")], os.getcwd() in map(os.path.abspath, sys.path)


@pytest.mark.parametrize("modules", [(), ("dirty",)], ids=["at once", "started again"])
def test_children_have_nothing_of_what_it_needs_for_itself(agent, tmp_path, modules, monkeypatch, cloudpickle):
    for name in _template._ONE_THREAD:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "dirty.py").write_text("import socket; keep = socket.socket()\n")
    monkeypatch.chdir(tmp_path)
    process = start(agent, tmp_path, *modules, MKL_NUM_THREADS="3", PYTHONPATH=os.pathsep.join([ROOT, str(tmp_path / "modules")]))
    try:
        template = agent.peer()
        template.table("Fork", {"key": 1, "env": ["OMP_NUM_THREADS=2"]})
        worker, task = agent.peer(), wire.TASK.pack(7, 99, 1)
        surroundings.__module__ = "__main__"  # sent by value
        function = code.Code(surroundings, "surroundings")
        worker.table("Function", function.fields(), function.payload)
        arguments = values.encode(((), {})).payload
        worker.send(wire.SUBMIT.pack(len(arguments), 0, task, wire.NO_TASK, function.number, 1, 0, 0, 0, 1, 1, 0, 0, wire.PICKLE) + arguments)
        result = worker.take("RESULT")
        assert values.decode(result.fields.format, result.payload, []) == ([None, "2", "3"], False)
    finally:
        for peer in agent.peers:
            peer.close()
        process.kill()
        process.communicate()


def asked_for(template, key, env):
    """A worker that is attached when it is born: what is sent for it, and the peer that it will be."""
    ours, theirs = socket.socketpair()
    agent = template.agent
    frame = wire.table("Fork", {"key": key, "env": env, "attached": {"agent": 7, "process": 100 + key, "job": 1}})
    socket.send_fds(template.sock, [frame], [theirs.fileno()])
    theirs.close()
    peer = Peer(agent, ours, 100 + key)
    threading.Thread(target=peer.read, daemon=True).start()
    agent.peers.append(peer)
    return peer


def sockets_of(pid):
    return sum(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket") for fd in os.listdir(f"/proc/{pid}/fd"))


def open_here():
    import os

    found = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    return sorted(what.partition(":")[0] for what in found if what.startswith(("socket", "pipe"))), os.environ.get("A"), os.environ.get("MANIPLE_WORKER")


@pytest.mark.skipif(twin.fast is None, reason="workers are born attached by the extension alone")
def test_workers_that_are_asked_for_at_once_are_each_on_their_own(agent, tmp_path, cloudpickle):
    process = start(agent, tmp_path)
    try:
        template = agent.peer()
        process.send_signal(signal.SIGSTOP)  # so that it finds them all
        envs = [["A=1"]] * 3 + [["=x"]] + [["A=2"]] * 10
        peers = {key: asked_for(template, key, env) for key, env in enumerate(envs, 1)}
        process.send_signal(signal.SIGCONT)
        states = {state["key"]: state for state in (template.take("WORKER_STATE").fields for _ in envs)}
        assert states[4]["phase"] == 2 and "forked" in states[4]["error"] and peers.pop(4).gone.wait(PATIENCE)
        pids = {states[key]["pid"] for key in peers}
        assert len(pids) == len(peers) and all(states[key]["phase"] == 1 for key in peers)
        open_here.__module__ = "__main__"  # sent by value
        function, arguments = code.Code(open_here, "open_here"), values.encode(((), {})).payload
        for key, peer in peers.items():
            peer.table("Function", function.fields(), function.payload)
            peer.send(wire.SUBMIT.pack(len(arguments), 0, wire.TASK.pack(7, 99, key), wire.NO_TASK, function.number, 1, 0, 0, 0, 1, 1, 0, 0, wire.PICKLE) + arguments)
            result = peer.take("RESULT")
            has = values.decode(result.fields.format, result.payload, [])
            assert has == (["pipe", "pipe", "socket"], envs[key - 1][0][2:], None), key  # nobody else's
        for key, peer in peers.items():  # and each ends by itself when its own connection does
            assert not peer.gone.is_set()
            peer.close()
            ended = template.take("WORKER_STATE").fields
            assert (ended["key"], ended["phase"], ended["pid"]) == (key, 2, states[key]["pid"])
    finally:
        process.send_signal(signal.SIGCONT)
        template.close()
        process.kill()
        process.communicate()


def test_a_worker_that_can_not_be_made_costs_no_other(agent, tmp_path):
    process = start(agent, tmp_path)
    try:
        template = agent.peer()
        for key, env in ((1, ["=x"]), (2, ["A=a\0b"])):  # no environment can have these
            template.table("Fork", {"key": key, "env": env})
            state = template.take("WORKER_STATE").fields
            assert (state["key"], int(state["phase"])) == (key, 2) and "forked" in state["error"]
        template.table("Fork", {"key": 3, "env": []})
        assert agent.peer().attach["worker"] == 3
        template.close()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.communicate()


SAYS = 3  # of its methods, behind those that all have


class Early:
    def __init__(self, *given):
        self.given = given

    def says(self):
        import os

        return self.given, sorted(os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}"))


@pytest.mark.skipif(twin.fast is None, reason="workers are born attached by the extension alone")
def test_what_workers_are_sent_before_they_are_made(agent, tmp_path, cloudpickle):
    """The template takes what it may, and each worker has all of its own: what came in time, what did not, what has references, a large frame, a descriptor."""
    for sent in (Early, Early.__init__, Early.says):
        sent.__module__ = "__main__"  # by value
    cls, nothing = code.Code(Early, "Early", True), values.encode(((), {})).payload
    process = start(agent, tmp_path)
    try:
        template = agent.peer()
        before = sockets_of(process.pid)
        process.send_signal(signal.SIGSTOP)
        peers, late = {}, {}
        for key in range(1, 7):
            peers[key] = peer = asked_for(template, key, [])
            given = b"x" * (300_000 if key == 3 else 8)
            arguments = values.encode(((given,), {})).payload
            actor = wire.TASK.pack(7, 50, key)
            reference, some = (wire.TASK.pack(7, 52, 1) + b"\0" * 8, 1) if key == 2 else (b"", 0)
            frames = wire.table("Function", cls.fields(), cls.payload) + wire.table("Shape", {"number": 1})
            frames += wire.table("Create", {"actor": wire.task_fields(actor), "function": cls.number, "shape": 1, "concurrency": 1, "refs": some, "job": 1, "format": wire.PICKLE}, reference + arguments)
            cut = {4: 0, 5: len(frames) - 20, 6: 100}.get(key, len(frames))
            threading.Thread(target=peer.send, args=(frames[:cut],), daemon=True).start()
            late[key] = frames[cut:]
        time.sleep(0.1)
        process.send_signal(signal.SIGCONT)
        for _ in peers:
            assert template.take("WORKER_STATE").fields["phase"] == 1
        for key, peer in peers.items():
            if late[key]:
                peer.send(late[key])
            made = peer.take("RESULT")
            peer.send(wire.CALL.pack(len(nothing), 0, wire.TASK.pack(7, 51, key), wire.NO_TASK, wire.TASK.pack(7, 50, key), 1, 1, 0, 0, 0, SAYS, 0, 1, 0, 0, 1, wire.PICKLE) + nothing)
            said = peer.take("RESULT")
            assert made.fields.flags & wire.ERROR == 0, (key, made.payload)
            given, open_now = values.decode(said.fields.format, said.payload, [])
            assert len(given[0]) == (300_000 if key == 3 else 8) and open_now.count("socket") == 1, key
        assert sockets_of(process.pid) == before
    finally:
        process.send_signal(signal.SIGCONT)
        template.close()
        process.kill()
        process.communicate()


@pytest.mark.skipif(twin.fast is None, reason="workers are born attached by the extension alone")
def test_a_session_takes_what_came_before_it_begins(tmp_path, cloudpickle):
    ours, theirs = socket.socketpair()
    session = _worker.WorkerSession(theirs, {"agent": 7, "process": 9, "job": 1}, str(tmp_path))
    read, write = os.pipe()
    try:
        def create(number, **more):
            return wire.table("Create", {"actor": wire.task_fields(wire.TASK.pack(7, 50, number)), "function": 1, "concurrency": 1, "job": 1, "format": wire.PICKLE, **more}, b"\0" * 32)

        ours.sendall(wire.table("Shape", {"number": 3}) + create(1) + create(2, refs=1) + create(3))
        socket.send_fds(ours, [wire.table("Shape", {"number": 4})], [read])
        opened = sorted(os.listdir("/proc/self/fd"))
        session.early()
        assert list(session.shapes) == [3] and list(session.jobs) == [wire.TASK.pack(7, 50, 1)]  # the next one has a reference
        assert sorted(os.listdir("/proc/self/fd")) == opened
    finally:
        session.connection.forget()
        for fd in (read, write):
            os.close(fd)
        ours.close()
