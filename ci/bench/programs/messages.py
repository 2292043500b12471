"""How many messages a get takes: the driver's connection goes through a relay that counts the frames on it.

For maniple alone, whose frames begin with 32 bytes of which the first four are the length of the rest.
"""

import json
import os
import socket
import struct
import subprocess
import tempfile
import threading
import time

from stand import api, number, part, say

HEADER = 32
CLUSTER = f"messages-{os.getpid()}"


class Way:
    """One direction of a connection: passes bytes and descriptors on, and counts the frames."""

    def __init__(self, source, sink):
        self.source, self.sink, self.frames, self._rest, self._skip = source, sink, 0, b"", 0

    def run(self):
        while True:
            data, more, _, _ = self.source.recvmsg(1 << 16, socket.CMSG_SPACE(64))
            if not data:
                self.sink.shutdown(socket.SHUT_WR)
                return
            files = [struct.unpack(f"{len(raw) // 4}i", raw) for level, kind, raw in more if kind == socket.SCM_RIGHTS]
            self._count(data)
            sent = self.sink.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(f)}i", *f)) for f in files])
            for fd in [fd for some in files for fd in some]:
                os.close(fd)
            self.sink.sendall(data[sent:])

    def _count(self, data):
        data, self._rest = self._rest + data, b""
        while data:
            cut = min(self._skip, len(data))
            data, self._skip = data[cut:], self._skip - cut
            if self._skip or not data:
                return
            if len(data) < HEADER:
                self._rest = data
                return
            self.frames += 1
            self._skip = HEADER + struct.unpack_from("<I", data)[0]


class Relay:
    """A socket that stands before the agent's, for one process."""

    def __init__(self, path, agent):
        self.ways = []
        self._agent, self._listener = agent, socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            near = self._listener.accept()[0]
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._agent)
            for way in (Way(near, far), Way(far, near)):
                self.ways.append(way)
                threading.Thread(target=way.run, daemon=True).start()

    def counts(self):
        """Frames to the agent and from it, once none has come for half a second."""
        while True:
            before = [way.frames for way in self.ways]
            time.sleep(0.5)
            if before == [way.frames for way in self.ways]:
                return sum(before[0::2]), sum(before[1::2])


@api.remote
def puts(count):
    return [api.put(i) for i in range(count)]


def counted(name, relay, refs):
    before = relay.counts()
    for ref in refs:
        api.get(ref)
    after = relay.counts()
    say(name, out=(after[0] - before[0]) / len(refs), back=(after[1] - before[1]) / len(refs))


count = number(1)
up = subprocess.run(["maniple", "up", "--json", "--cluster", CLUSTER], stdout=subprocess.PIPE, check=True)
try:
    with tempfile.TemporaryDirectory() as directory, part("own", "another's"):
        path = os.path.join(directory, "relay")
        relay = Relay(path, json.loads(up.stdout.splitlines()[-1])["socket"])
        api.init(path)
        own = [api.put(i) for i in range(count)]
        others = api.get(puts.remote(count))
        counted("own", relay, own)
        counted("another's", relay, others)
        del own, others
        api.shutdown()
finally:
    subprocess.run(["maniple", "down", "--now", "--cluster", CLUSTER])
