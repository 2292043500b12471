"""The program of `maniple demo`: that its ranks really exchange what they learned."""

import importlib.util
import pathlib
import socket
import threading

import pytest

np = pytest.importorskip("numpy")
path = pathlib.Path(__file__).parents[3] / "launcher" / "demo" / "demo.py"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_rank_gets_the_mean_of_all(demo):
    world, got = 3, {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def rank(number):
        group = demo.Star(number, world, "127.0.0.1", port, patience=20)
        got[number] = [group.mean(np.array([number, 10.0 * number, step])) for step in range(2)]

    ranks = [threading.Thread(target=rank, args=(number,)) for number in range(world)]
    for r in ranks:
        r.start()
    for r in ranks:
        r.join(30)
    for number in range(world):
        assert [v.tolist() for v in got[number]] == [[1, 10, 0], [1, 10, 1]]


def test_the_gradient_is_that_of_the_loss(demo):
    network = demo.Network(hidden=5, seed=1)
    images, labels = demo.pictures(20, seed=3)
    _, gradient = network.gradient(images, labels)
    rng = np.random.default_rng(0)
    for _ in range(5):
        step = rng.normal(0, 1, gradient.shape)
        losses = []
        for sign in (1, -1):
            network.parameters += sign * 1e-5 * step
            losses.append(network.gradient(images, labels)[0])
            network.parameters -= sign * 1e-5 * step
        assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(gradient @ step, rel=1e-3)


def test_ranks_see_different_pictures_of_all_digits(demo):
    first, labels = demo.pictures(200, seed=1000)
    second, _ = demo.pictures(200, seed=1001)
    assert set(labels) == set(range(10))
    assert not np.allclose(first, second)
    assert np.array_equal(first, demo.pictures(200, seed=1000)[0])
