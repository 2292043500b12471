"""Graphs that are bound before they run."""

import pytest

import maniple
from maniple.dag import InputNode, MultiOutputNode


@maniple.remote
def add(a, b=1):
    return a + b


@maniple.remote
def total(numbers):
    return sum(maniple.get(numbers))


@maniple.remote
class Counter:
    def __init__(self, n=0):
        self.n = n

    def count(self, by=1):
        self.n += by
        return self.n


def test_tasks_and_actors(cluster):
    assert maniple.get(add.bind(add.bind(1), b=add.bind(2)).execute()) == 5
    assert maniple.get(add.options(name="more").bind(1).execute()) == 2
    node = Counter.bind(add.bind(4))
    both = MultiOutputNode([node.count.bind(), node.count.options(num_returns=1).bind(10)])
    for _ in range(2):  # actors are made anew
        assert maniple.get(both.execute()) == [6, 16]
    there = Counter.remote(1)
    assert maniple.get([there.count.bind(2).execute(), there.count.bind(add.bind(2)).execute()]) == [3, 6]
    assert maniple.get(total.bind([add.bind(1), add.bind(2)]).execute()) == 5


def test_a_node_runs_once_for_each_execute(cluster):
    counter = Counter.remote()
    shared = counter.count.bind()
    end = add.bind(add.bind(shared, shared), shared)
    assert maniple.get(end.execute()) == 3 and maniple.get(end.execute()) == 6


def test_input(cluster):
    with InputNode() as x:
        one = add.bind(x, 5)
        many = add.bind(x[0], x["more"])
        inside = add.bind(x["a"])
        attribute = add.bind(x.imag)
    assert maniple.get(one.execute(2)) == 7
    assert maniple.get(many.execute(2, more=3)) == 5
    assert maniple.get(inside.execute({"a": 8})) == 9
    assert maniple.get(attribute.execute(2 + 3j)) == 4
    with pytest.raises(TypeError, match="was not given 'more'"):
        many.execute(2, less=1)
    with pytest.raises(TypeError, match="needs what it stands for"):
        one.execute()
    with pytest.raises(TypeError, match="has no InputNode"):
        add.bind(1).execute(2)


def test_long_chains(cluster):
    node = add.bind(0)
    for _ in range(1500):
        node = add.bind(node)
    assert maniple.get(node.execute()) == 1501


def test_wrong_graphs(cluster):
    for wrong in (lambda: add.bind(1, 2, 3), lambda: Counter.bind(1, 2)):
        with pytest.raises(TypeError, match="does not take these arguments"):
            wrong()
    with pytest.raises(AttributeError, match="no method nothing"):
        Counter.bind().nothing
    for nodes in ([], [3], add.bind(1)):
        with pytest.raises(ValueError, match="a list of nodes"):
            MultiOutputNode(nodes)
    with pytest.raises(TypeError, match="can't be sent"):
        maniple.put(add.bind(1))
