"""init without a cluster: how one is found, started, and ended with the process that wanted it."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest

import maniple
from maniple import _binary, _local
from scripted import PATIENCE, Agent


@pytest.fixture
def nothing(monkeypatch, tmp_path):
    """A machine on which nothing runs, with a temporary directory of its own."""
    for name in ("MANIPLE_ADDRESS", "SLURM_JOB_ID", "SLURM_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(_local, "_EVERYWHERE", ())
    yield tmp_path
    maniple.shutdown()


@pytest.fixture
def binary(nothing, agent, monkeypatch):
    """A command `maniple` that notes how it is called and has the scripted agent for a cluster."""
    path = nothing / "maniple"
    answer = json.dumps({"version": 1, "socket": agent.path})
    path.write_text(f"#!/bin/sh\necho \"$@\" >> {nothing}/calls\n[ \"$1\" = down ] || echo '{answer}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(_binary, "find_binary", lambda: str(path))
    return path


def calls(directory):
    return (directory / "calls").read_text().splitlines()


def test_a_cluster_is_started_and_ended(nothing, binary, agent):
    context = maniple.init(num_cpus=1, resources={"disk": 2}, labels={"zone": "a"})
    assert context["address"] == agent.path and int(agent.peer().attach["kind"]) == 1
    (up,) = calls(nothing)
    assert up.split() == f"up --json --idle never --cpus 1 --node-resources disk=2 --node-labels zone=a --cluster python-{os.getpid()}".split()
    maniple.shutdown()
    assert calls(nothing)[1] == f"down --now --cluster python-{os.getpid()}"


def test_more_than_this_machine_has_is_a_fake_node():
    assert _local._node_flags({"num_cpus": 10_000, "num_gpus": 2}) == ["--fake-nodes", "auto", "--cpus", "10000", "--node-gpus", "2"]
    assert _local._node_flags({"object_store_memory": (1 << 30) + 1}) == ["--object-store-memory", "1048577K"]
    assert _local._node_flags({"object_spilling_directory": "/a,/b"}) == ["--object-spilling-directory", "/a,/b"]
    assert _local._node_flags({"object_spilling_limit": 4096}) == ["--object-spilling-limit", "4K"]


@pytest.mark.parametrize(
    "job, given, up, cluster",
    [
        ("7", {}, "", "7"),
        ("7", {"object_store_memory": 1 << 30}, "--object-store-memory 1048576K", "7"),
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
    assert calls(nothing) == [f"up --json --idle never {up}".strip() + ("" if cluster else " " + mine)]
    assert ("so this is a cluster of this node alone: the Slurm job 7 has 4 nodes" in capfd.readouterr().err) == (bool(job) and not cluster and "address" not in given)
    maniple.shutdown()
    assert calls(nothing)[1] == f"down --now --cluster {cluster or mine}"


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
    assert calls(nothing)[1] == f"down --now --cluster python-{script.pid}"


def test_a_failure_to_start_is_told_in_the_command_s_words(nothing, binary):
    binary.write_text("#!/bin/sh\n[ \"$1\" = down ] || echo 'maniple: up: no room' >&2\nexit 73\n")
    with pytest.raises(ConnectionError, match="no room"):
        maniple.init()
    assert not maniple.is_initialized()


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
