"""init without a cluster: how one is found, started, and ended with the process that wanted it."""

import _thread
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

import maniple
from maniple import _binary, _init, _local
from scripted import PATIENCE, Agent
from test_interrupt import SOON, interrupted


@pytest.fixture
def nothing(monkeypatch, tmp_path):
    """A machine on which nothing runs, with a temporary directory of its own."""
    for name in ("MANIPLE_ADDRESS", "SLURM_JOB_ID", "SLURM_TMPDIR", "SLURMD_NODENAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(_local, "_EVERYWHERE", ())
    yield tmp_path
    maniple.shutdown()


@pytest.fixture
def binary(nothing, agent, monkeypatch):
    """A command `maniple` that notes how it is called, has the scripted agent for a cluster, and notes when it would end that."""
    path = nothing / "maniple"
    path.write_text(up(agent.path))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(_binary, "find_binary", lambda: str(path))
    return path


def up(socket, kind="local", then="read nothing; echo end >> $calls", **more):
    """A script that says that the cluster of this socket is up, and stays."""
    answer = json.dumps({"version": 1, "cluster": "it", "kind": kind, "socket": socket, **more})
    return f"#!/bin/sh\ncalls=$(dirname $0)/calls\necho \"$@\" >> $calls\necho '{answer}'\nexec >&- 2>&-\n{then}\n"


def calls(directory):
    return (directory / "calls").read_text().splitlines()


def test_a_cluster_is_started_and_ended(nothing, binary, agent):
    context = maniple.init(num_cpus=1, resources={"disk": 2}, labels={"zone": "a"})
    assert context["address"] == agent.path and int(agent.peer().attach["kind"]) == 1
    (up,) = calls(nothing)
    assert up.split() == f"up --json --idle never --with-stdin --cpus 1 --node-resources disk=2 --node-labels zone=a --cluster python-{os.getpid()}".split()
    maniple.shutdown()
    assert calls(nothing) == [up, "end"]


def test_more_than_this_machine_has_is_a_fake_node(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})  # all that this process may use, as in a step of a job, or under taskset
    assert _local._node_flags({"num_cpus": 2}) == ["--fake-nodes", "auto", "--cpus", "2"] and _local._node_flags({"num_cpus": 1}) == ["--cpus", "1"]
    assert _local._node_flags({"num_cpus": 10_000, "num_gpus": 2}) == ["--fake-nodes", "auto", "--cpus", "10000", "--node-gpus", "2"]
    assert _local._node_flags({"object_store_memory": (1 << 30) + 1}) == ["--object-store-memory", "1048577K"]
    assert _local._node_flags({"object_spilling_directory": "/a,/b"}) == ["--object-spilling-directory", "/a,/b"]
    assert _local._node_flags({"object_spilling_limit": 4096}) == ["--object-spilling-limit", "4K"]


@pytest.mark.parametrize(
    "job, given, up, cluster",
    [
        ("7", {}, "--or-join", "7"),
        ("7", {"object_store_memory": 1 << 30}, "--object-store-memory 1048576K --or-join", "7"),
        ("7", {"num_cpus": 1}, "--fake-nodes auto --cpus 1 --cluster ", ""),
        ("7", {"num_gpus": 0}, "--fake-nodes auto --node-gpus 0 --cluster ", ""),
        ("7", {"labels": {"zone": "a"}}, "--fake-nodes auto --node-labels zone=a --cluster ", ""),
        ("7", {"address": "local"}, "--fake-nodes auto --cluster ", ""),
        ("", {"address": "local"}, "--cluster ", ""),
        ("", {"num_cpus": 0, "num_gpus": 0}, "--cpus 0 --node-gpus 0 --cluster ", ""),
    ],
)
def test_what_is_said_of_a_node_is_of_this_one_alone(nothing, binary, agent, monkeypatch, capfd, job, given, up, cluster):
    """In a Slurm job of four nodes, where init() has them all."""
    if job:
        for name, value in (("SLURM_JOB_ID", job), ("SLURM_JOB_NUM_NODES", "4"), ("SLURMD_NODENAME", "n1")):
            monkeypatch.setenv(name, value)
    maniple.init(**given)
    mine = f"python-{os.getpid()}"
    assert calls(nothing) == [f"up --json --idle never --with-stdin {up}".strip() + ("" if cluster else " " + mine)]
    assert ("so this is a cluster of this node alone: the Slurm job 7 has 4 nodes" in capfd.readouterr().err) == (bool(job) and not cluster and "address" not in given)
    maniple.shutdown()
    assert calls(nothing)[1] == "end"


def test_a_node_has_a_whole_number_of_each(nothing, binary):
    for given in ({"num_cpus": 0.5}, {"num_cpus": -1}, {"num_gpus": "2"}, {"num_gpus": float("nan")}, {"num_cpus": float("inf")}):
        with pytest.raises(ValueError, match="is a whole number, 0 or more"):
            maniple.init(**given)
    assert not (nothing / "calls").exists()


def test_it_ends_with_a_process_that_is_killed(nothing, binary, agent):
    code = "import sys, maniple\nfrom maniple import _binary\n_binary.find_binary = lambda: sys.argv[1]\nmaniple.init('local'); print('up', flush=True); sys.stdin.read()"
    script = subprocess.Popen([sys.executable, "-c", code, str(binary)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert script.stdout.readline() == b"up\n"
    script.send_signal(signal.SIGKILL)
    script.communicate()
    deadline = threading.Event()
    for _ in range(PATIENCE * 100):
        if len(calls(nothing)) == 2:
            break
        deadline.wait(0.01)
    (up, end) = calls(nothing)
    assert up.endswith(f" --cluster python-{script.pid}") and end == "end"


def test_a_failure_to_start_is_told_in_the_command_s_words(nothing, binary, monkeypatch):
    record = json.dumps({"version": 1, "event": "error", "code": "CANNOT_CREATE", "exit_code": 73, "what": "up"})
    binary.write_text(f"#!/bin/sh\necho \"$@\" >> {nothing}/calls\necho 'maniple: up: no room' >&2\necho '{record}'\nexit 73\n")
    for job in ("", "7"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURMD_NODENAME", "n1")
        for address in (None, "local"):
            with pytest.raises(ConnectionError, match="no cluster could be started: maniple: up: no room$"):
                maniple.init(address)
            assert not maniple.is_initialized()
    up, mine = "up --json --idle never --with-stdin ", f"--cluster python-{os.getpid()}"  # nothing was ended that this did not start
    assert calls(nothing) == [up + mine, up + mine, up + "--or-join", up + "--fake-nodes auto " + mine]


def test_who_dies_while_a_cluster_is_brought_up_ends_it(nothing, binary, monkeypatch):
    """The command is told by the end of its standard input, whatever it does."""
    binary.write_text(f"#!/bin/sh\nread nothing; echo end >> {nothing}/calls\n")
    monkeypatch.setattr(_local, "_START_TIMEOUT", 0.1)
    with pytest.raises(ConnectionError, match="it is not up after 0 s"):
        maniple.init()
    assert calls(nothing) == ["end"]


@pytest.fixture
def job(nothing, monkeypatch):
    """A Slurm job, on one of whose nodes this is."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    return nothing / f"maniple-{os.getuid()}" / "7" / "n1"


def test_the_cluster_of_a_job_is_whose_who_was_first(job, nothing, binary, agent):
    binary.write_text(up(agent.path, "slurm"))
    maniple.init()
    assert calls(nothing) == ["up --json --idle never --with-stdin --or-join"]
    maniple.shutdown()
    assert calls(nothing)[1:] == ["end"]
    binary.write_text(up(agent.path, "slurm", "", joined=True))
    maniple.init()
    assert _init._guard is None
    maniple.shutdown()
    assert calls(nothing)[2:] == ["up --json --idle never --with-stdin --or-join"]


def test_what_a_node_is_to_have_is_not_for_one_whose_cluster_another_started(job, nothing, binary, agent):
    binary.write_text(up(agent.path, "slurm", "", joined=True))
    with pytest.raises(ValueError, match="object_store_memory, object_spilling_limit can't be given when joining a cluster that is up"):
        maniple.init(object_store_memory=1 << 30, object_spilling_limit=1 << 30)
    assert _init._guard is None and not maniple.is_initialized()


def test_a_cluster_that_just_ends_is_not_joined(job, nothing, binary, agent):
    job.mkdir(parents=True)
    ending = socket.socket(socket.AF_UNIX)
    ending.bind(str(job / "agent.sock"))
    ending.listen()
    closer = threading.Thread(target=lambda: [ending.accept()[0].close() for _ in range(2)])  # who looks for it, and who attaches
    closer.start()
    binary.write_text(up(agent.path, "slurm"))
    assert maniple.init()["address"] == agent.path
    closer.join(PATIENCE)
    with pytest.raises(ConnectionError):  # who names it is told
        maniple.shutdown() or maniple.init(str(job / "none.sock"))
    ending.close()


def test_a_cluster_that_ends_while_it_is_joined_is_looked_for_again(job, nothing, binary, agent):
    """Who joins is counted once it has attached: the cluster may end before that, for another one."""
    gone, here = (up(path, "slurm", "", joined=True) for path in (str(nothing / "none.sock"), agent.path))
    binary.write_text(f"#!/bin/sh\nif [ $(cat $(dirname $0)/calls 2>/dev/null | wc -l) -lt 2 ]; then\n{gone}exit; fi\n{here}")
    assert maniple.init()["address"] == agent.path and _init._guard is None
    assert calls(nothing) == ["up --json --idle never --with-stdin --or-join"] * 3
    maniple.shutdown()
    binary.write_text(gone)  # not for ever
    with pytest.raises(ConnectionError, match="no agent at"):
        maniple.init()
    assert len(calls(nothing)) == 3 + 4


def test_a_shared_cluster_stays_for_others_and_that_is_said(job, nothing, binary, agent, monkeypatch, capsys):
    monkeypatch.setattr(_local, "_END_TIMEOUT", 0.05)
    binary.write_text(up(agent.path, "slurm", "read nothing; sleep 0.3; echo end >> $calls"))
    maniple.init()
    maniple.shutdown()
    assert calls(nothing)[1:] == ["end"] and "other programs of the Slurm job may use it" in capsys.readouterr().err


def test_a_cluster_that_is_up_is_found_by_its_directory(nothing, binary, cloudpickle):
    directory = nothing / f"maniple-{os.getuid()}" / "default" / socket.gethostname().split(".")[0]
    dead = nothing / f"maniple-{os.getuid()}" / "default" / "a-dead-node"
    for path in (directory, dead):
        path.mkdir(parents=True)
    (dead / "agent.sock").touch()
    agent = Agent(directory)
    try:
        assert maniple.init("auto")["address"] == agent.path
        maniple.shutdown()
        assert maniple.init("default")["address"] == agent.path
        maniple.shutdown()
        assert maniple.init()["address"] == agent.path and not (nothing / "calls").exists()
    finally:
        maniple.shutdown()
        agent.close()


def test_auto_starts_nothing(nothing, binary):
    with pytest.raises(ConnectionError, match="maniple up"):
        maniple.init("auto")
    assert not (nothing / "calls").exists()


def ended(directory):
    """Waits until the command has noted its end."""
    deadline = time.monotonic() + PATIENCE
    while not (directory / "calls").exists() or "end" not in calls(directory):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_interrupt_does_not_wait_for_a_cluster_that_comes_up(nothing, binary):  # PY-1
    """It ends by itself."""
    for interrupt in ((), (_thread.interrupt_main,)):
        binary.write_text("#!/bin/sh\nread nothing; sleep 1; echo end >> $(dirname $0)/calls\n")
        assert interrupted(maniple.init, *interrupt, waiting=("said",), inside="_local") < SOON
        assert not maniple.is_initialized() and _init._guard is None
        ended(nothing)
        (nothing / "calls").unlink()


def test_an_interrupt_does_not_wait_for_a_cluster_that_goes_down(nothing, binary, agent):  # PY-1
    binary.write_text(up(agent.path, then="read nothing; sleep 1; echo end >> $calls"))
    maniple.init()
    assert interrupted(maniple.shutdown, waiting=("_over",), inside="_local") < SOON
    assert not maniple.is_initialized() and _init._guard is None
    ended(nothing)


def test_an_interrupt_does_not_wait_for_a_cluster_that_is_joined(nothing, binary, agent):  # PY-1
    agent.welcome = lambda peer: None
    binary.write_text(up(agent.path, then="read nothing; sleep 1; echo end >> $calls"))
    assert interrupted(maniple.init, waiting=("exactly", "_await")) < SOON
    assert not maniple.is_initialized() and _init._guard is None
    ended(nothing)


def test_an_init_that_fails_waits_for_nobody(job, nothing, binary, monkeypatch, capsys):
    """Others may use the cluster that it has brought up: that ends without it."""
    monkeypatch.setattr(_local, "_END_TIMEOUT", 0.05)
    binary.write_text(up(str(nothing / "none.sock"), "slurm", "read nothing; sleep 1"))
    with pytest.raises(ConnectionError, match="no agent at"):
        maniple.init()
    assert capsys.readouterr().err == ""
