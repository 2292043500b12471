"""Plays the scripts of the agents' core with real clients: the same files, rt/agent/work/testdata/*.txt.

There a line above "----" is what a process sends, and the lines below are what the core answers. Here the player is
the agent: it says what the script says that the core answers, and looks whether the clients send what the script says
that they send. What a line has a client do is in script_player. A line that no client would send as it is written stands
in a block (or, behind `core`, in a world) that has the word "frames": that is between the core and a test of Go.

IDs, numbers of shapes and of methods, and hashes are the clients' own; names stand for them. An answer waits until a line
needs it, or the block ends: within a block the script does not say which answer is whose.
"""

import collections
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

from script_client import ROOT
from scripted import PATIENCE, Agent

WHERE = pathlib.Path(ROOT).parents[1] / "rt" / "agent" / "work" / "testdata"
Script = collections.namedtuple("Script", "played apart")
Block = collections.namedtuple("Block", "number commands answers")


def worlds(text):
    """The worlds of a script that clients play, each a list of blocks; and the number of lines that are apart."""
    played, apart, skip, number = [], 0, False, 1
    for chunk in text.rstrip("\n").split("\n\n"):
        commands, found, answers = chunk.partition("\n----")
        first, number = number, number + chunk.count("\n") + 2
        lines = [line.strip() for line in commands.split("\n")]
        lines = [line for line in lines if line and not line.startswith("#")]
        if not found:
            continue
        for line in lines:
            if line.startswith("core "):
                skip = "frames" in line.split()
                played += [] if skip else [[]]
        if skip or "frames" in lines:
            apart += len(lines)
            continue
        assert "quiet" not in lines, f"line {first}: what is not said can't be played: leave the word quiet out"
        played[-1].append(Block(first, lines, [a.strip() for a in answers.split("\n") if a.strip()]))
    return Script(played, apart)


def split(line):
    """Words, and options as a dict: "a b k=v k={x y}"."""
    words, options, depth, part = [], {}, 0, ""
    for char in line + " ":
        depth += (char == "{") - (char == "}")
        if char != " " or depth:
            part += char
            continue
        key, eq, value = part.partition("=")
        if eq and not part.startswith("{"):
            options[key] = value.strip("{}")
        elif part:
            words.append(part.strip("{}"))
        part = ""
    return words, options


class Zygote:
    """The program of which all clients are forks, and where their lines come in."""

    def __init__(self, directory):
        path = os.path.join(str(directory), "lines")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        env = {**os.environ, "MANIPLE_SCRIPT": path, "PYTHONPATH": ROOT}
        self.worlds = 0
        self.process = subprocess.Popen([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "script_client.py")], stdin=subprocess.PIPE, env=env)
        self.came = {}

    def fork(self, **start):
        self.process.stdin.write(json.dumps(start).encode() + b"\n")
        self.process.stdin.flush()

    def line(self, who):
        while who not in self.came:
            self.listener.settimeout(PATIENCE)
            line = Line(self.listener.accept()[0])
            if line.who:  # else it was killed meanwhile
                self.came[line.who] = line
        return self.came.pop(who)

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.listener.close()


class Line:
    """The player's end of a client's line."""

    def __init__(self, sock):
        sock.settimeout(PATIENCE)
        self.sock, self.file, self.answers, self.count = sock, sock.makefile("rwb"), {}, 0
        hello = json.loads(self.file.readline() or '{"who": "", "pid": 0}')
        self.who, self.pid = hello["who"], hello["pid"]

    def order(self, do, **with_):
        self.count += 1
        self.file.write(json.dumps({"id": self.count, "do": do, "with": with_}).encode() + b"\n")
        self.file.flush()
        return self.count

    def answer(self, number):
        while number not in self.answers:
            text = self.file.readline()
            assert text, f"{self.who} is gone"
            answer = json.loads(text)
            self.answers[answer["id"]] = answer
        return self.answers.pop(number)

    def done(self, number):
        answer = self.answer(number)
        assert "error" not in answer, answer["trace"]
        return answer["value"]


class Process:
    """A client of the script."""

    def __init__(self, name, peer, line, job):
        self.name, self.peer, self.line, self.job = name, peer, line, job
        self.driver = int(peer.attach["kind"]) == 1
        self.functions, self.shapes = {}, {}  # said by it: names and tables, by number
        self.declared = {}  # shapes as the script numbers them
        self.has, self.asked, self.given, self.had, self.tasks, self.corr = set(), {}, {}, False, {}, 0
        self.recalled, self.late, self.naming, self.gone = set(), None, "", False

    def kill(self):
        self.gone = True
        try:
            os.kill(self.line.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.peer.close()


class ScriptAgent(Agent):
    """Tells who attaches what the script says."""

    def attached(self, peer):
        peer.table("Attached", {"agent": self.number, "process": peer.number, "node": "n1", "cluster": "test", "credit_bytes": self.credit[0], "credit_records": self.credit[1],
                                "job": self.job, "inline_limit": self.inline_limit})  # fmt: skip
        self.arrivals.put(peer)
