"""An agent made of Python, for tests: it speaks the frames, and does what a script says.

`Agent` listens on a unix socket and shakes hands; each process that attaches is a `Peer`, whose frames the
test takes one by one (`peer.take("SUBMIT")`) or hands to a function. No waiting without a deadline.
"""

import collections
import os
import queue
import socket
import threading

from maniple._core import dial, failures, frames, values, wire

PATIENCE = 20  # seconds that a frame may take to come on a loaded machine
STREAM_BYTES = 2 << 20  # that a generator may be ahead of its reader
HOT = {hot.number: hot for hot in [*vars(wire).values(), wire.Hot("LINE"), wire.Hot("TOLD")] if isinstance(hot, wire.Hot)}

TABLES = {wire.screaming(name): name for name in frames.TABLES if hasattr(frames, wire.screaming(name))}
NAMES = {getattr(frames, name): name for name in [*TABLES, *(hot.name for hot in HOT.values())]}

Frame = collections.namedtuple("Frame", "name fields payload corr")


class Peer:
    """One process that attached."""

    def __init__(self, agent, sock, number):
        self.agent, self.sock, self.number = agent, sock, number
        self.attach, self.inbox, self.kept = None, queue.Queue(), collections.deque()
        self.handler = None  # called on the reading thread with each frame in place of the inbox
        self.gone = threading.Event()

    # What comes.

    def read(self):
        try:
            while True:
                head = dial.exactly(self.sock, wire.HEADER_SIZE)
                length, body, kind, class_, flags, message, seq, corr = wire.HEADER.unpack(head)
                assert body <= length and not flags and not message and not seq, head
                assert class_ == frames.CLASS_OF.get(kind, frames.CLASS_CONTROL)
                data = dial.exactly(self.sock, length)
                self.handle(kind, data[:body], data[body:], corr)
        except (ConnectionError, OSError):
            pass
        finally:
            self.inbox.put(None)
            self.gone.set()
            if self.agent.on_gone:
                self.agent.on_gone(self)

    def handle(self, kind, body, payload, corr):
        name = NAMES[kind]
        fields = HOT[kind].read(body) if kind in HOT else frames.unpack(TABLES[name], body)
        frame = Frame(name, fields, payload, corr)
        if name == "HELLO":
            assert (fields["wire_version"], int(fields["role"]), int(fields["purpose"])) == (frames.VERSION, 3, 3)
            self.agent.welcome(self)
        elif name == "ATTACH":
            self.attach = fields
            self.agent.attached(self)
        elif self.handler:
            self.handler(frame)
        else:
            self.inbox.put(frame)
        if name == "GOODBYE" and self.attach and int(self.attach["kind"]) == dial.DRIVER:
            self.close()  # nothing of what its workers print is still to come

    def take(self, *names, patience=PATIENCE):
        """The next frame of one of these names (none given: of any); others are kept for later."""
        for frame in list(self.kept):
            if not names or frame.name in names:
                self.kept.remove(frame)
                return frame
        while True:
            frame = self.inbox.get(timeout=patience)
            if frame is None:
                self.inbox.put(None)
                raise ConnectionError(f"the peer went before it sent {names}")
            if not names or frame.name in names:
                return frame
            self.kept.append(frame)

    def none_of(self, *names):
        """Asserts that none of these came, as far as the peer has said all that it had to say before a sign of ours."""
        while not self.inbox.empty():
            self.kept.append(self.inbox.get())
        assert not [f for f in self.kept if f and f.name in names]

    # What is sent.

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            pass

    def table(self, name, fields, payload=b"", corr=0):
        self.send(wire.table(name, fields, payload, corr))

    def result(self, task, value=None, index=0, flags=wire.LAST, refs=(), attempt=0):
        encoded = values.encode(value)
        self.raw_result(task, encoded.format, encoded.payload, index, flags, refs, attempt)

    def raw_result(self, task, format, payload, index=0, flags=wire.LAST, refs=(), attempt=0):
        heads = b"".join(key + b"\0\0\0\0" for key in refs)
        key = wire.key_of(task, index)
        self.send(wire.RESULT.pack(len(heads) + len(payload), 0, key, attempt, flags, format, len(refs), len(payload), 0, 0) + heads + payload)

    def fail(self, task, code, message, index=0, flags=wire.LAST | wire.ERROR):
        self.raw_result(task, wire.FAILURE, failures.plain(code, message, task), index, flags)

    def raises(self, task, error, function="f"):
        self.raw_result(task, wire.FAILURE, failures.of_user(error, function, task, "n1"), flags=wire.LAST | wire.ERROR)

    def ready(self, key, state):
        self.send(wire.READY.pack(0, 0, key, state, 0))

    def credit(self, size, records):
        self.send(wire.CREDIT.pack(0, 0, size, records, 0))

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Agent:
    """Listens, welcomes, and attaches whoever comes. credit: bytes and records for each."""

    def __init__(self, directory, credit=(64 << 20, 100_000), inline_limit=100 << 10, store=False):
        self.path = os.path.join(str(directory), "agent.sock")
        self.credit, self.inline_limit, self.store = credit, inline_limit, store
        self.peers, self.arrivals = [], queue.Queue()
        self.on_attach = self.on_gone = None
        self.refuse = None
        self._listener = socket.socket(socket.AF_UNIX)
        fd = os.open(str(directory), os.O_RDONLY)  # its path may be longer than the kernel takes
        self._listener.bind(f"/proc/self/fd/{fd}/agent.sock")
        os.close(fd)
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            peer = Peer(self, sock, len(self.peers) + 1)
            self.peers.append(peer)
            thread = threading.Thread(target=peer.read, daemon=True)
            self._threads.append(thread)
            thread.start()

    def welcome(self, peer):
        if self.refuse:
            peer.table("Refuse", {"code": 9, "text": self.refuse})
        else:
            peer.table("Welcome", {"wire_version": frames.VERSION, "build": "scripted", "agent": 7})

    def attached(self, peer):
        peer.table("Attached", {
            "agent": 7, "process": peer.number, "node": "n1", "cluster": "test", "credit_bytes": self.credit[0], "credit_records": self.credit[1],
            "job": 1, "inline_limit": self.inline_limit, "store": self.store, "stream_bytes": STREAM_BYTES,
        })  # fmt: skip
        if self.on_attach:
            self.on_attach(peer)
        self.arrivals.put(peer)

    def peer(self):
        """The next process that attaches."""
        return self.arrivals.get(timeout=PATIENCE)

    def close(self):
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        for peer in self.peers:
            peer.close()
        for thread in self._threads:
            thread.join(5)
        for peer in self.peers:
            peer.sock.close()


def arguments(frame):
    """args and kwargs of a Submit or Call without references."""
    return values.load_pickle(frame.payload)


def keys(frame, count=None):
    """The keys that a payload begins with."""
    count = frame.fields.refs if count is None else count
    return [frame.payload[at : at + 20] for at in range(0, 24 * count, 24)]


def header(length, body, kind, class_=1, flags=0):
    return wire.HEADER.pack(length, body, kind, class_, flags, 0, 0, 0)
