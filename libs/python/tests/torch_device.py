"""Device objects between real workers. test_device.py has these tests run, by a Python that has torch."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import maniple
from maniple.experimental.collective import create_collective_group, destroy_collective_group, get_collective_groups
from relay import Relay
from torch_actors import Loop, Sink, Source, total


@pytest.fixture(scope="session")
def relay(tmp_path_factory):
    """An agent whose workers are born with torch."""
    made = Relay(tmp_path_factory.mktemp("relay"), modules=("numpy", "torch"))
    yield made
    maniple.shutdown()
    made.close()


def test_a_reader_has_the_tensors_brought(cluster):
    source, sink = Source.remote(), Sink.remote()
    ref = source.make.remote(n=10)
    assert maniple.get(sink.total.remote(ref), timeout=60) == 45
    assert maniple.get(sink.inside.remote({"ref": ref}), timeout=60) == 45
    assert maniple.get(total.remote(ref), timeout=60) == 45
    assert torch.equal(maniple.get(ref, timeout=60), torch.arange(10.0))
    assert maniple.get(sink.total.remote(source.plain.remote()), timeout=60) == 2


def test_what_is_around_them_comes_as_it_was(cluster):
    source, sink = Source.remote(), Sink.remote()
    create_collective_group([source, sink], "gloo")
    for value in (maniple.get(source.nested.remote(), timeout=60), maniple.get(source.nested.remote(), _use_object_store=True)):
        whole = torch.arange(12).reshape(3, 4)
        assert torch.equal(value["a"][0], whole) and torch.equal(value["a"][1]["b"], whole.t()) and value["again"] is value["a"][0]
        assert value["n"] == 7 and value["bool"].tolist() == [True, False] and value["none"].shape == (0, 3) and value["one"] == 2.5 and value["one"].dtype == torch.bfloat16
        assert type(value["own"].weight) is torch.nn.Parameter and value["own"].weight.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert value["sparse"].is_sparse and value["conj"].tolist() == [1 - 2j] and value["grad"].requires_grad
    ref = source.nested.remote()
    assert maniple.get(sink.fields.remote(ref), timeout=60)[1:] == (torch.arange(12).reshape(3, 4).tolist(), [[0, 1, 2], [3, 4, 5]])


def test_the_actor_itself_has_its_own(cluster):
    source = Source.remote()
    ref = source.make.remote()
    assert maniple.get(source.same.remote(ref))
    maniple.get(source.write.remote(ref, 9))
    assert maniple.get(source.first.remote()) == 9 and maniple.get(ref)[0] == 9  # what the actor writes, later readers see


def test_results_of_all_kinds(cluster):
    source = Source.remote()
    one, none = source.pair.remote()
    assert maniple.get(one).tolist() == [1, 1] and maniple.get(none) == {"no": "tensor"}
    assert [maniple.get(r).tolist() for r in source.stream.remote(3)] == [[i] * 3 for i in range(3)]
    with pytest.raises(TypeError, match="can't be sent"):
        maniple.get(source.not_to_be_sent.remote())
    assert maniple.get(source.kept.remote()) == (4, 0)


def test_a_group_takes_them(cluster):
    source, sink = Source.remote(), Sink.remote()
    group = create_collective_group([source, sink], "torch_gloo", name="two")
    assert (group.get_rank(source), group.get_rank(sink), get_collective_groups([sink], "gloo")) == (0, 1, [group])
    with pytest.raises(ValueError, match="'two' already"):
        create_collective_group([source, sink], "gloo", name="two")
    refs = [source.make.remote(str(n), n) for n in (10, 3_000)]
    assert maniple.get([sink.total.remote(r) for r in refs], timeout=60) == [45, 4498500]
    assert maniple.get(sink.ways.remote()) == {"group": 2}
    assert maniple.get(sink.by_store.remote({"ref": refs[0]})) == 45
    assert maniple.get(sink.ways.remote()) == {"group": 2, "store": 1}
    destroy_collective_group("two")
    assert maniple.get(sink.inside.remote({"ref": refs[0]})) == 45
    assert maniple.get(sink.ways.remote()) == {"group": 2, "store": 2}
    with pytest.raises(ValueError, match="no collective group 'two'"):
        destroy_collective_group(group)


def test_two_that_want_each_others(cluster):
    a, b = Source.remote(), Sink.remote()
    create_collective_group([a, b], "gloo")
    ref = a.make.remote()
    assert maniple.get(a.ask.remote(b, [ref][0]), timeout=60) == 6
    assert maniple.get(a.ask.remote(b, a.make.remote(n=5)), timeout=60) == 10
    loops = [Loop.remote(), Loop.remote()]
    create_collective_group(loops, "gloo")
    refs = [loop.make.remote(i + 1) for i, loop in enumerate(loops)]
    assert maniple.get([loop.total.remote(r) for loop, r in zip(loops, reversed(refs)) for _ in range(3)], timeout=60) == [2, 2, 2, 1, 1, 1]


def test_a_reader_that_is_cancelled_does_not_end_its_group(cluster):
    source, sink = Source.remote(), Sink.remote()
    create_collective_group([source, sink], "gloo")
    maniple.get(source.waits.remote(1.0))
    ref = source.make.remote(n=10)
    assert maniple.get(sink.cancelled.remote({"ref": ref}), timeout=60)
    time.sleep(2)
    assert maniple.get(sink.inside.remote({"ref": ref}), timeout=60) == 45
    assert maniple.get(sink.ways.remote()) == {"group": 1}


@pytest.mark.parametrize("size", [2, 5])
def test_members_are_connected_before_they_send(size):
    import torch.distributed as dist

    from maniple.experimental import collective

    def join(rank):
        up, down = (collective._gloo(dist, dist.PrefixStore(way, store), rank, size, "127.0.0.1", 20)[0] for way in ("up", "down"))
        collective._connect(up, down, rank, size, "cpu", 20)
        return rank

    store = dist.HashStore()
    with ThreadPoolExecutor(size) as pool:
        assert list(pool.map(join, range(size))) == list(range(size))


def test_a_member_that_died(cluster):
    source, sink = Source.remote(), Sink.remote()
    create_collective_group([source, sink], "gloo")
    ref = source.make.remote()
    assert maniple.get(sink.total.remote(ref)) == 6
    maniple.kill(source)
    for ask in (lambda: sink.inside.remote({"ref": ref}), lambda: sink.total.remote(ref), lambda: ref):
        with pytest.raises(maniple.exceptions.ObjectLostError, match="Source.*lost with it"):
            maniple.get(ask(), timeout=60)
    with pytest.raises(maniple.exceptions.ActorDiedError):
        create_collective_group([source, sink], "gloo")


def test_what_is_wrong_is_said(cluster):
    source, sink = Source.remote(), Sink.remote()
    for actors, backend, says in (([source, sink], "mpi", "not 'mpi'"), ([source], "gloo", "two or more"), ([source, source], "gloo", "each once"), ([source, 5], "gloo", "two or more")):
        with pytest.raises(ValueError, match=says):
            create_collective_group(actors, backend)
    if torch.cuda.is_available():
        return
    with pytest.raises(maniple.exceptions.TaskError, match="GPU"):
        create_collective_group([sink, source], "nccl")
