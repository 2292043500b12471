"""A driver whose actors train, as far as their data is concerned: torch's DataLoader forks workers inside of them, while they hold references, views of
shared memory and a connection to their agent, and all the while everybody goes on calling, putting and getting."""

import gc
import os
import re
import signal
import sys
import threading
import time
import warnings

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

import maniple
from maniple import exceptions
from maniple._core import twin
from maniple.util import state

PATIENCE = 180  # seconds, on a machine that is busy with other things
SOON = 3  # torch looks by itself each 5
ROWS, COLUMNS, BATCH, WORKERS = 800, 500, 64, 4


def get(ref):
    return maniple.get(ref, timeout=PATIENCE)


def until(what, why, pause=0.02):
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, why() if callable(why) else why
        time.sleep(pause)


def children():
    """Processes that this one has forked and not waited for."""
    found = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as f:
                found += map(int, f.read().split())
        except FileNotFoundError:  # it has ended
            pass
    return sorted(found)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptors():
    """What this process has open, by number."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the listing's own
            pass
    return found


def sockets():
    return {name for name in descriptors().values() if name.startswith("socket:")}


def standing():
    """What this process has of the kernel's. Arenas and lines to actors come and go by themselves; views do not."""
    gc.collect()
    kinds = sorted(re.sub(r"\d+", "N", name) for name in descriptors().values() if "memfd" not in name and not name.startswith("socket:"))
    with open("/proc/self/maps") as f:
        views = sum("memfd" in line and line.split()[1].endswith("p") for line in f)
    threads = sorted(t.name for t in threading.enumerate() if not t.name.startswith("maniple-"))
    return {"descriptors": kinds, "views": views, "children": children(), "threads": threads}


class Rows(Dataset):
    """What lies in shared memory, row by row, and who has read it."""

    def __init__(self, table, tensor, pause=0.0):
        self.table, self.tensor, self.pause, self.parents = table, tensor, pause, sockets()

    def __len__(self):
        return len(self.table)

    def __getitem__(self, i):
        time.sleep(self.pause)
        return np.array(self.table[i]), self.tensor[i].clone(), os.getpid()


class Asks(Rows):
    """What a process of a DataLoader may do with what is its parent's, and with what is its own."""

    def __init__(self, table, tensor, ref, echo):
        super().__init__(table, tensor)
        self.ref, self.echo = ref, echo

    def __len__(self):
        return WORKERS

    def __getitem__(self, i):
        for kind, use in ((exceptions.ObjectLostError, lambda: get(self.ref)), (exceptions.ActorHandleNotFoundError, lambda: self.echo.say.remote(1))):
            try:
                use()
            except kind as e:
                assert "from before a fork" in str(e), e
            else:
                raise AssertionError(f"no {kind}")
        assert maniple.is_initialized() and not self.parents & sockets()
        value = np.full(50_000, i)
        assert get(maniple.put(i)) == i and np.array_equal(get(maniple.put(value)), value)
        return i, os.getpid()


def born(number):
    """A process of a DataLoader has nothing of its parent's connection."""
    assert not maniple.is_initialized() and not get_worker_info().dataset.parents & sockets()


# Of a process that is gone torch speaks in its own words, or in those of the connection by which a batch was to come.
MISSED = ("RuntimeError: DataLoader worker", "EOFError", "Connection", "FileNotFoundError")


def complaint(call):
    try:
        call()
    except (RuntimeError, OSError, EOFError) as e:
        return f"{type(e).__name__}: {e}"
    return "nobody has missed it"


def loader(rows, batch=BATCH, **more):
    return DataLoader(rows, batch_size=batch, num_workers=WORKERS, multiprocessing_context="fork", worker_init_fn=born, **more)


def epoch(batches, table, tensor):
    """Takes them all, and sees that they are right. The processes that have read them."""
    pids, at = set(), 0
    for rows, scaled, pid in batches:
        end = at + len(rows)
        assert np.array_equal(rows.numpy(), table[at:end]) and torch.equal(scaled, tensor[at:end])
        pids.update(pid.tolist())
        at = end
    assert at == len(table) and len(pids) == WORKERS and os.getpid() not in pids, (at, pids)
    return pids


class Busy:
    """Somebody who calls, puts and gets on a thread, as long as the block lasts. also: what he does, too."""

    def __init__(self, echo, also=lambda: None):
        self.echo, self.also, self.rounds, self.stop, self.error = echo, also, 0, threading.Event(), None
        self.thread = threading.Thread(target=self.run, name="busy")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error
        assert self.rounds

    def run(self):
        try:
            while not self.stop.is_set():
                n = self.rounds
                large, small = maniple.put(np.full(40_000, n)), maniple.put([n])
                assert get([self.echo.total.remote(large), self.echo.say.remote(n), square.remote(small)]) == [40_000 * n, n, n * n]
                (again,) = get(self.echo.say.remote([large]))  # it comes back as a reference
                assert again == large and get(again)[-1] == n and get(small) == [n]
                self.also()
                self.rounds += 1
                time.sleep(0.03)  # the others' turn
        except BaseException as e:
            self.error = e


@maniple.remote
def square(of):
    return of[0] ** 2


@maniple.remote(num_cpus=0)
class Echo:
    def say(self, value):
        return value

    def total(self, array):
        return int(array.sum())


@maniple.remote(num_cpus=0)
class Trainer:
    def __init__(self, table, refs, echo):
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        self.table, self.refs, self.echo = table, refs, echo
        self.tensor, self.view = maniple.get(refs[:2])
        assert not self.table.flags.writeable and not self.view.flags.writeable
        self.kept = None

    def twin(self):
        return "Python" if twin.fast is None else "extension"

    def epochs(self, times, persistent):
        """The processes that read, for each epoch, and how often somebody was busy meanwhile."""
        with Busy(self.echo):  # what is made once is made
            pass
        before = standing()
        batches = loader(Rows(self.table, self.tensor), persistent_workers=persistent)
        with Busy(self.echo) as busy:
            pids = [epoch(batches, self.table, self.tensor) for _ in range(times)]
            while not busy.rounds:
                time.sleep(0.01)
        del batches
        until(lambda: standing() == before, lambda: f"{standing()} is left, and was {before}")
        return pids, busy.rounds

    def asks(self):
        got = list(loader(Asks(self.table, self.tensor, self.refs[2], self.echo), 1))
        assert [int(i) for i, _ in got] == list(range(WORKERS)), got
        return [int(pid) for _, pid in got]

    def killed(self):
        """What torch says of a process that is killed while others read, and the seconds until then."""
        began = []

        def read():
            for _, _, pids in loader(Rows(self.table, self.tensor, 0.002), 8):
                if not began:
                    began.append(time.monotonic())
                    os.kill(int(pids[0]), signal.SIGKILL)

        return complaint(read), time.monotonic() - began[0]

    def keep(self):
        """Processes that stay, behind this call."""
        self.kept = loader(Rows(self.table, self.tensor), persistent_workers=True)
        return epoch(self.kept, self.table, self.tensor)

    def go_on(self):
        said = complaint(lambda: epoch(self.kept, self.table, self.tensor))
        self.kept = None
        return said

    def total(self):
        return float(self.table.sum())

    def rest(self):
        gc.collect()
        return float(maniple.get(self.refs)[2].sum()), float(self.table.sum()), int(self.tensor.sum()), int(self.view.sum()), children()

    def pid(self):
        return os.getpid()


@maniple.remote(num_cpus=0)
class Newborn:
    def modules(self):
        return [name for name in ("numpy", "torch") if name in sys.modules]


@maniple.remote
def reads_for_ever(table, tensor, path):
    batches = loader(Rows(table, tensor, 0.005), persistent_workers=True)
    while True:
        pids = epoch(batches, table, tensor)
        with open(path + "~", "w") as f:
            f.write(" ".join(map(str, pids)))
        os.replace(path + "~", path)


def held():
    """Who holds what."""
    gc.collect()
    return sorted((o["id"], o["pid"]) for o in state.list_objects(limit=10_000))


def interrupted(table, tensor):
    """A terminal's Ctrl-C, which torch's processes have, too, while batches are waited for. The seconds that it took."""
    sent = []

    def press():
        time.sleep(0.3)
        sent.append(time.monotonic())
        os.killpg(0, signal.SIGINT)

    batches = iter(loader(Rows(table, tensor, 0.1), 8))
    for _ in range(WORKERS):  # all of them read
        next(batches)
    presses = threading.Thread(target=press)
    presses.start()
    try:
        while True:
            next(batches)
    except KeyboardInterrupt:
        took = time.monotonic() - sent[0]
    presses.join()
    return took


def drive(echo, before):
    table = np.arange(ROWS * COLUMNS, dtype=np.float64).reshape(ROWS, COLUMNS)
    tensor = torch.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    whole = float(table.sum()), int(tensor.sum())
    refs = [maniple.put(tensor), maniple.put(np.full(300_000, 2)), maniple.put(np.full(300_000, 0.5))]
    trainer, table_ref = Trainer.remote(maniple.put(table), refs, echo), maniple.put(table)
    threads = Trainer.options(max_concurrency=3).remote(table_ref, refs, echo)
    expected = (150_000.0, *whole, 600_000, [])
    assert get(trainer.twin.remote()) == ("Python" if os.environ.get("MANIPLE_PURE") else "extension")
    pid = get(trainer.pid.remote())

    def asks_the_other():  # while epochs run there
        assert get(threads.total.remote()) == whole[0]

    del refs  # from here on only the actors hold them
    with Busy(echo, asks_the_other) as busy:
        calls = trainer.epochs.remote(2, False), trainer.epochs.remote(2, True), threads.epochs.remote(2, True)
        (fresh, rounds), (stayed, _), (beside, _) = get(list(calls))
    assert not fresh[0] & fresh[1] and stayed[0] == stayed[1] and beside[0] == beside[1] and rounds and busy.rounds, (fresh, stayed, beside)
    readers = fresh[0] | fresh[1] | stayed[0] | beside[0] | set(get(trainer.asks.remote()))

    said, took = get(trainer.killed.remote())
    assert said.startswith(MISSED) and took < PATIENCE, (said, took)
    kept = get(trainer.keep.remote())
    os.kill(min(kept), signal.SIGKILL)  # while the actor has nothing to do
    until(lambda: not alive(min(kept)), "it lives")
    time.sleep(0.5)  # on most machines enough for the actor to hear of it
    said = get(trainer.go_on.remote())
    assert said.startswith(MISSED), said
    assert get(trainer.pid.remote()) == pid and get(trainer.rest.remote()) == expected and get(threads.rest.remote()) == expected

    read = os.path.abspath("read")
    endless = reads_for_ever.remote(table_ref, maniple.put(tensor), read)
    until(lambda: os.path.exists(read), "nothing is read")
    maniple.cancel(endless)
    try:
        get(endless)
    except exceptions.TaskCancelledError:
        pass
    with open(read) as f:
        readers |= kept | set(map(int, f.read().split()))

    assert interrupted(get(table_ref), tensor) < SOON
    assert get(echo.say.remote("there")) == "there"
    until(lambda: not any(map(alive, readers)), lambda: f"of {readers} some live")
    pids = {pid, get(threads.pid.remote())}
    del trainer, threads, table_ref, endless, calls
    until(lambda: set(held()) <= set(before), lambda: f"{held()} is held, and was {before}")  # what the first calls left may go later than before was read
    until(lambda: not any(map(alive, pids)), lambda: f"of the actors {pids} one lives")


def main():
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    maniple.init(num_cpus=2)

    # This driver has numpy and torch: so have its workers from their birth, as soon as there is a process to fork them from.
    modules = []

    def ready():
        actor = Newborn.remote()
        modules[:] = get(actor.modules.remote())
        maniple.kill(actor)
        return modules == ["numpy", "torch"]

    until(ready, lambda: modules, 0.3)
    echo = Echo.remote()
    assert get(echo.say.remote(1)) == 1
    drive(echo, held())
    maniple.shutdown()
    print("all is well", flush=True)


main()
