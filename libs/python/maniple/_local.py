"""Finding the cluster on this machine, and starting one that ends with this process."""

from __future__ import annotations

import glob
import json
import os
import select
import socket
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

from maniple._core import dial
from maniple._core.patience import SLICE

_SOCKET = "agent.sock"
_EVERYWHERE = ("/tmp",)  # where keepers make their directories, after SLURM_TMPDIR and TMPDIR
_START_TIMEOUT = 330.0  # seconds: 300 for nodes to join, and the rest
_END_TIMEOUT = 15.0  # seconds
_OF_A_NODE = ("num_cpus", "num_gpus", "resources", "labels")  # arguments of init that say what one node has


def find(address: Optional[str]) -> Optional[str]:
    """The socket of the agent to use; None if a cluster has to be started. address: as in init.

    Raises ConnectionError if the cluster that is meant is not there, ValueError for an address of another kind.
    """
    given = address if address not in (None, "auto") else os.environ.get("MANIPLE_ADDRESS")
    if given:
        path = given[5:] if given.startswith("unix:") else given
        if path.startswith("//"):
            path = path[2:]
        if os.path.isabs(path):
            return path
        if "://" in given or ":" in given:
            raise ValueError(f"{given} is no address from here: drivers join on a node of the cluster; `maniple exec -- python ...` starts one there")
        found = _on_this_node(given)
        if found is None:
            raise ConnectionError(f"no cluster {given} is up on this machine; `maniple status` shows which are, `maniple up --cluster {given}` starts it")
        return found
    job = os.environ.get("SLURM_JOB_ID")
    found = _on_this_node(job or "default")
    if found is not None:
        return found
    if job and not os.environ.get("SLURMD_NODENAME") and not _in_allocation():
        raise ConnectionError(f"this host is not a node of the Slurm job {job}: `maniple up`, then `maniple exec -- python ...` runs the program on its first node")
    if address == "auto":
        raise ConnectionError("no cluster is up on this machine; `maniple up` starts one, and so does init() without an address")
    return None


def by_itself(address: Optional[str]) -> bool:
    """Nobody named a cluster, and all programs of this Slurm job have the same one: whoever is first starts it."""
    return address is None and not os.environ.get("MANIPLE_ADDRESS") and bool(os.environ.get("SLURM_JOB_ID"))


def _in_allocation() -> bool:
    """This host is in the job's list of nodes, which may be folded."""
    names = os.environ.get("SLURM_JOB_NODELIST", "")
    host = socket.gethostname().split(".")[0]
    if "[" not in names:
        return host in [n.split(".")[0] for n in names.split(",")]
    try:
        unfolded = subprocess.run(["scontrol", "show", "hostnames", names], capture_output=True, text=True, timeout=10).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return False
    return host in [n.split(".")[0] for n in unfolded]


def _on_this_node(name: str) -> Optional[str]:
    """The socket of a live agent of this user's cluster of that name, by the directories that keepers make."""
    host = socket.gethostname().split(".")[0]
    for base in dict.fromkeys([os.environ.get("SLURM_TMPDIR"), os.environ.get("TMPDIR"), *_EVERYWHERE]):
        if not base:
            continue
        top = os.path.join(base, f"maniple-{os.getuid()}", name)
        try:
            if os.lstat(top).st_uid != os.getuid():
                continue
        except OSError:
            continue
        paths = glob.glob(os.path.join(glob.escape(top), "*", _SOCKET))
        for path in sorted(paths, key=lambda p: (os.path.basename(os.path.dirname(p)) != host, p)):
            try:
                dial.dial(path).close()
                return path
            except ConnectionError:  # what a dead cluster left
                continue
    return None


class Guard:
    """The command that brought a cluster up. It stays, as a shell, and ends the cluster when this process ends, by whatever death: it waits for the
    end of a pipe."""

    shared = False  # others find the cluster, too: it stays until none of them uses it

    def __init__(self, argv: List[str]):
        self._command: Any = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def said(self, timeout: float) -> str:
        """What the command says until the cluster is up, or it has failed. Raises TimeoutError."""
        pipe, deadline, text = self._command.stdout, time.monotonic() + timeout, b""
        ready = select.poll()
        ready.register(pipe, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if ready.poll(max(min(left, SLICE), 0) * 1000):
                data = os.read(pipe.fileno(), 1 << 16)
                if not data:
                    pipe.close()
                    return text.decode(errors="replace")
                text += data
            elif left <= SLICE:
                raise TimeoutError(f"it is not up after {timeout:.0f} s")

    def end(self, patient: bool = True) -> None:
        """Ends the cluster; waits for it. One that others use as well ends after them, for which only who is patient waits."""
        self.leave()
        if not self._over(_END_TIMEOUT) and self.shared and patient:
            sys.stderr.write("maniple: the cluster that this program started is not down yet: other programs of the Slurm job may use it, and it stays for them\n")
            self._over(float("inf"))

    def leave(self) -> None:
        """Has the cluster end, and does not wait for it."""
        try:
            self._command.stdin.close()
        except OSError:  # this process has closed it by itself, or the command is gone
            pass

    def _over(self, seconds: float) -> bool:
        """The command has ended, or does within so many seconds. Popen's own wait() keeps a Ctrl-C for itself for a quarter of one."""
        deadline, pause = time.monotonic() + seconds, 0.001
        while self._command.poll() is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return True

    def forget(self) -> None:
        """In a forked child: lets go of the pipe, so that it does not keep the parent's cluster."""
        os.close(self._command.stdin.fileno())
        self._command.returncode = 0  # not this process's child


def start(node: Dict[str, Any], alone: bool = False) -> Tuple[str, Optional[Guard]]:
    """Brings up a cluster: of the Slurm job that this runs in; of this machine alone if there is none, if something is said of a node, or if it is
    to be alone. node: what init was given. Without a Guard it is another program's of the job, which was quicker.

    Raises ConnectionError with what the command said, FileNotFoundError without the binary, ValueError if node says something and another was quicker.
    """
    from maniple._binary import find_binary

    binary, job = find_binary(), os.environ.get("SLURM_JOB_ID")
    said = [name for name in _OF_A_NODE if node.get(name) is not None]
    apart = bool(job) and (alone or bool(said))
    argv = [binary, "up", "--json", "--idle", "never", "--with-stdin", *_node_flags(node, apart)]
    argv += ["--or-join"] if job and not apart else ["--cluster", f"python-{os.getpid()}"]
    nodes = os.environ.get("SLURM_JOB_NUM_NODES", "1")
    if apart and not alone and nodes != "1":
        sys.stderr.write(
            f"maniple: {', '.join(said)} was given, so this is a cluster of this node alone: the Slurm job {job} has {nodes} nodes, all of which init() "
            'without it uses (address="local" says that this one is meant)\n'
        )
    guard = Guard(argv)
    try:
        up = _told(guard.said(_START_TIMEOUT))
        if not up.get("socket"):
            raise ConnectionError("the cluster has no node on this machine: `maniple exec -- python ...` runs the program on one")
        guard.shared = up.get("kind") == "slurm"
    except (ValueError, TimeoutError) as e:
        guard.end()
        raise ConnectionError(f"no cluster could be started: {' '.join(argv[1:])}: {e}") from e
    except Exception:
        guard.end()
        raise
    except BaseException:  # a Ctrl-C, which is not to wait
        guard.leave()
        raise
    if up.get("joined"):
        guard.end()
        given = ", ".join(name for name, value in node.items() if value is not None)
        if given:
            raise ValueError(f'{given} can\'t be given when joining a cluster that is up (at {up["socket"]}), which another program of the Slurm job has just started; address="local" starts another')
        return up["socket"], None
    return up["socket"], guard


def _told(text: str) -> Dict[str, Any]:
    """What `maniple up` says of the cluster. Raises ConnectionError with its words if there is none."""
    up: Dict[str, Any] = {}
    words = []
    for line in text.splitlines():
        if line.startswith("{"):
            up = json.loads(line)
        elif line.strip():
            words.append(line.strip())
    if "cluster" not in up:
        raise ConnectionError(f"no cluster could be started: {'; '.join(words) or 'nothing is said of why'}")
    return up


def _node_flags(node: Dict[str, Any], apart: bool = False) -> List[str]:
    """What a node is said to have; more GPUs or memory than this machine has make it a fake one, more cores are shared. apart: it is no node of the Slurm job's cluster."""
    flags: List[str] = []
    cpus, gpus = node.get("num_cpus"), node.get("num_gpus")
    if apart or gpus or (cpus or 0) > len(os.sched_getaffinity(0)):  # as the binary counts them
        flags += ["--fake-nodes", "auto"]
    if cpus is not None:
        flags += ["--cpus", str(int(cpus))]
    if gpus is not None:
        flags += ["--node-gpus", str(int(gpus))]
    if node.get("resources"):
        flags += ["--node-resources", ",".join(f"{k}={v}" for k, v in node["resources"].items())]
    if node.get("labels"):
        flags += ["--node-labels", ",".join(f"{k}={v}" for k, v in node["labels"].items())]
    if node.get("object_store_memory"):
        flags += ["--object-store-memory", f"{-(-node['object_store_memory'] // 1024)}K"]
    if node.get("object_spilling_directory"):
        flags += ["--object-spilling-directory", node["object_spilling_directory"]]
    if node.get("object_spilling_limit"):
        flags += ["--object-spilling-limit", f"{-(-node['object_spilling_limit'] // 1024)}K"]
    return flags
