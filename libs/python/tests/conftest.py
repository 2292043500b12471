import pytest

import maniple
from maniple._core import session as _session
from relay import Relay
from scripted import Agent


@pytest.fixture(scope="session")
def cloudpickle():
    """What sends functions; without it only values can be sent."""
    return pytest.importorskip("cloudpickle")


@pytest.fixture
def agent(tmp_path, cloudpickle):
    """A scripted agent."""
    made = Agent(tmp_path)
    yield made
    maniple.shutdown()
    made.close()


@pytest.fixture
def driver(agent):
    """This process, attached to the scripted agent; gives what the agent sees of it."""
    maniple.init(agent.path, namespace="test")
    peer = agent.peer()
    yield peer
    maniple.shutdown()


@pytest.fixture(scope="session")
def relay(tmp_path_factory, cloudpickle):
    """An agent with real workers, for all tests."""
    made = Relay(tmp_path_factory.mktemp("relay"))
    yield made
    maniple.shutdown()
    made.close()


@pytest.fixture
def cluster(relay):
    """This process as a driver of real workers."""
    maniple.init(relay.path, namespace="test")
    yield relay
    maniple.shutdown()
    wrong, relay.wrong = relay.wrong, []
    assert not wrong
    assert _session.attached() is None

