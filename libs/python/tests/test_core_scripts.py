"""The core's scripts with real clients: what a client sends is what the script says, and it takes what the core answers."""

import pytest

from core_scripts import WHERE, ScriptAgent, Zygote, worlds
from script_player import Player

SCRIPTS = {path.stem: worlds(path.read_text()) for path in sorted(WHERE.glob("*.txt"))}
APART = {"hostile"}  # whose processes do what no client would


@pytest.fixture(scope="module")
def zygote(tmp_path_factory, cloudpickle):
    made = Zygote(tmp_path_factory.mktemp("zygote"))
    yield made
    made.close()


@pytest.mark.parametrize("script", sorted(SCRIPTS.keys() - APART))
def test_clients_play_the_script(script, zygote, tmp_path):
    agent = ScriptAgent(tmp_path)
    try:
        for blocks in SCRIPTS[script].played:
            assert Player(agent, zygote, f"{script}.txt").play(blocks) > 0
    finally:
        agent.close()


def test_most_lines_are_for_clients():
    played = sum(len(block.commands) for script in SCRIPTS.values() for blocks in script.played for block in blocks)
    apart = sum(script.apart for name, script in SCRIPTS.items() if name not in APART)
    assert played > 2 * apart, f"{played} lines are played, {apart} are not: a client should do what it can"
    assert not any(SCRIPTS[name].played for name in APART)
