"""Files of HDFS, with a server in this process in the place of the binary's. HDFS itself: ci/e2e/yarn."""

import errno
import gc
import hashlib
import io
import json
import os
import socket
import struct
import tempfile
import threading
import warnings
import zipfile

import pytest

from maniple import _hdfs, _packages, fs
from maniple.exceptions import RuntimeEnvSetupError

from test_tensors import run_with_torch


class Server:
    """A file system in memory that speaks to maniple.fs; requests are noted."""

    def __init__(self):
        self.files, self.ids, self.asked, self.cut = {}, {}, [], set()
        self.broken = []  # what goes wrong with the next writes

    def connect(self):
        ours, theirs = socket.socketpair()
        threading.Thread(target=self.run, args=(theirs,), daemon=True).start()
        return ours

    def put(self, path, data):
        self.files[path], self.ids[path] = data, len(self.ids) + 1 + 100 * self.ids.get(path, 0)

    def entry(self, path):
        return {
            "name": path.rpartition("/")[2], "id": self.ids[path], "size": len(self.files[path]), "mtime": 1500, "mode": 0o644,
            "owner": "o", "group": "g", "replication": 1, "block_size": 128,
        }  # fmt: skip

    def run(self, conn):
        with conn, conn.makefile("rb") as file:
            self.serve(conn, file)

    def serve(self, conn, file):
        opened, draft, name, exclusive, failed = None, None, "", False, 0
        while True:
            head = file.read(8)
            if len(head) < 8:
                return
            text, size = struct.unpack("<II", head)
            ask, data = json.loads(file.read(text)), file.read(size)
            op, path = ask["op"], ask.get("path", "")
            self.asked.append(op)
            said, out, no = {}, b"", 0
            if op in self.cut:
                self.cut.discard(op)
                return
            if op == "hello":
                self.hello = ask
            elif op in ("stat", "open") and path not in self.files:
                no = errno.ENOENT
            elif op == "open" and ask["id"] and ask["id"] != self.ids[path]:
                no = errno.ESTALE
            elif op in ("stat", "open"):
                said["info"], opened = self.entry(path), self.files[path]
            elif op == "read":
                out = opened[ask["at"] : ask["at"] + ask["size"]]
            elif op == "create":
                name, draft, exclusive, failed = path, b"", ask["exclusive"], 0
                no = errno.EEXIST if exclusive and path in self.files else 0
            elif op == "write":
                draft += data
                no = failed = failed or (self.broken.pop() if self.broken else errno.EDQUOT if len(draft) > 10 << 20 else 0)
            elif op in ("finish", "commit") and failed:  # half of it takes no place
                no = failed
            elif op == "commit" and exclusive and name in self.files:
                no = errno.EEXIST
            elif op == "commit":
                self.put(name, draft)
            elif op == "list":
                for one in sorted(self.files):
                    self.say(conn, {"list": [self.entry(one)], "more": True})
            elif op not in ("finish", "discard", "mkdir", "rename", "remove"):
                no = errno.EINVAL
            if no:
                said = {"errno": no, "error": os.strerror(no) + " there"}
            self.say(conn, said, out)

    def say(self, conn, said, out=b""):
        text = json.dumps(said).encode()
        try:
            conn.sendall(struct.pack("<II", len(text), len(out)) + text + out)
        except OSError:  # nobody waits for it
            pass


@pytest.fixture
def hdfs(monkeypatch, tmp_path_factory):
    server = Server()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.setattr(_hdfs._channel, "connect", server.connect)
    monkeypatch.setattr(_hdfs, "_idle", {})
    yield server
    for connections in _hdfs._idle.values():
        for connection in connections:
            connection.close()


def test_what_is_written_is_read(hdfs, monkeypatch):
    monkeypatch.setenv("HADOOP_CONF_DIR", "/etc/here")
    data = os.urandom(3 << 20)
    with fs.open("hdfs://nn:9000/a/b", "wb") as f:
        f.write(data[:5])
        f.write(data[5:])
        assert "/a/b" not in hdfs.files and f.tell() == len(data)
    assert hdfs.files["/a/b"] == data
    assert hdfs.hello["server"] == "nn:9000" and hdfs.hello["env"]["HADOOP_CONF_DIR"] == "/etc/here"
    with fs.open("hdfs://nn:9000/a/b", "rb") as f:
        assert f.read() == data and f.read() == b""
        assert f.seek(-3, 2) == len(data) - 3 and f.read() == data[-3:]
        assert f.seek(1 << 20) and f.read(7) == data[1 << 20 :][:7]
        with pytest.raises(OSError):
            f.seek(-1)
    with fs.open("hdfs://nn:9000/t", "w") as f:
        f.write("grün\n")
    assert hdfs.files["/t"] == "grün\n".encode() and list(fs.open("hdfs://nn:9000/t")) == ["grün\n"]
    assert [e.name for e in fs.listdir("hdfs://nn:9000/")] == ["b", "t"]
    assert fs.stat("hdfs://nn:9000/t").mtime == 1.5 and fs.exists("hdfs://nn:9000/t")
    assert hdfs.asked.count("hello") <= 4


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_block_that_fails_leaves_what_was(hdfs, mode):
    hdfs.put("/x", b"old")
    with pytest.raises(KeyError):
        with fs.open("hdfs:///x", mode) as f:
            f.write("new" if mode == "w" else b"new")
            raise KeyError
    assert hdfs.files["/x"] == b"old" and "discard" in hdfs.asked and "commit" not in hdfs.asked
    f.close()
    assert hdfs.files["/x"] == b"old"


class Cycle:
    def __init__(self, of):
        self.me, self.of = self, of


@pytest.mark.parametrize("keep", [lambda f: None, Cycle], ids=["", "cycle"])
@pytest.mark.parametrize("mode", ["w", "wb", "x", "xb"])
@pytest.mark.parametrize("size", [3, 3 << 20])
def test_what_nobody_closes_leaves_what_was(hdfs, mode, size, keep):
    if "w" in mode:
        hdfs.put("/x", b"old")
    before = dict(hdfs.files)
    with pytest.warns(ResourceWarning, match="hdfs:///x was not closed: nothing of it is written"):
        f = fs.open("hdfs:///x", mode)
        f.write(b"n" * size if "b" in mode else "n" * size)
        keep(f)
        del f
        gc.collect()
    assert hdfs.files == before and "discard" in hdfs.asked and "commit" not in hdfs.asked


def test_what_nobody_closes_is_nothing_where_nothing_was_written(hdfs, recwarn):
    hdfs.put("/x", b"old")
    fs.open("hdfs:///x").read()
    with fs.open("hdfs:///y", "w") as f:
        f.write("new")
    f = fs.open("hdfs:///z", "w")
    buffer = f.detach()
    del f
    buffer.write(b"new")
    buffer.close()
    del buffer
    gc.collect()
    assert hdfs.files == {"/x": b"old", "/y": b"new", "/z": b"new"}
    assert [str(w.message) for w in recwarn if "closed" in str(w.message)] == []
    with pytest.raises(LookupError):
        fs.open("hdfs:///x", "w", encoding="no such")
    gc.collect()
    assert hdfs.files["/x"] == b"old"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mode", ["w", "wb"])
def test_what_nobody_closes_leaves_what_was_where_warnings_are_errors(hdfs, mode):
    hdfs.put("/x", b"old")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        f = fs.open("hdfs:///x", mode)
        f.write(b"new" if "b" in mode else "new")
        del f
        gc.collect()
    assert hdfs.files["/x"] == b"old"


def test_what_can_not_be_written_is_said_once_and_not_kept(hdfs):
    hdfs.put("/x", b"old")
    with pytest.raises(OSError) as caught:
        with fs.open("hdfs:///x", "wb") as f:
            f.write(bytes(20 << 20))
    assert caught.value.errno == errno.EDQUOT and caught.value.filename == "hdfs:///x"
    assert hdfs.files["/x"] == b"old"


def test_errors_are_of_their_kinds(hdfs):
    hdfs.put("/x", b"")
    with pytest.raises(FileNotFoundError, match="No such file or directory there: 'hdfs:///none'"):
        fs.open("hdfs:///none")
    with pytest.raises(FileExistsError):
        fs.open("hdfs:///x", "x")
    assert not fs.exists("hdfs:///none")
    for wrong in ("/x", "hdfs://x", "s3://x/y"):
        with pytest.raises(ValueError):
            fs.stat(wrong)
    for mode in ("a", "r+", "wb+", "", "rw", "rbt", "rr"):
        with pytest.raises(ValueError, match=f"not '{mode}'".replace("+", ".")):
            fs.open("hdfs:///x", mode)
    with pytest.raises(TypeError, match="a text"):
        fs.open("hdfs:///x", 5)
    with pytest.raises(ValueError):
        fs.rename("hdfs://a/x", "hdfs://b/x")
    with pytest.raises(ValueError):
        fs.open("hdfs:///x", "rb", encoding="utf-8")


@pytest.mark.parametrize("mode", ["x", "xb"])
def test_a_new_file_takes_nobodys_place(hdfs, mode):
    new = "new" if mode == "x" else b"new"
    f = fs.open("hdfs:///x", mode)
    f.write(new)
    assert "/x" not in hdfs.files
    hdfs.put("/x", b"theirs")
    with pytest.raises(FileExistsError):
        f.close()
    assert f.closed and hdfs.files["/x"] == b"theirs"
    with fs.open("hdfs:///y", mode) as f:
        f.write(new)
    assert hdfs.files["/y"] == b"new"


def test_a_connection_that_breaks_costs_a_reader_nothing(hdfs):
    """HDFS-2: unless another file has taken the name."""
    hdfs.put("/x", b"0123456789")
    f = fs.open("hdfs:///x", "rb", buffering=4)
    assert f.read(4) == b"0123"
    hdfs.cut.add("read")
    assert f.read(4) == b"4567"
    hdfs.put("/x", b"abcdefghij")
    hdfs.cut.add("read")
    with pytest.raises(OSError) as caught:
        f.read(2)
    assert caught.value.errno == errno.ESTALE
    hdfs.cut.add("stat")
    assert fs.stat("hdfs:///x").size == 10


def test_a_writer_whose_server_ended_says_so(hdfs):
    f = fs.open("hdfs:///x", "wb")
    f.write(b"1")
    hdfs.cut.add("write")
    with pytest.raises(ConnectionError):
        f.close()
    assert f.closed and "/x" not in hdfs.files


def test_an_interrupt_leaves_no_answer_for_the_next_request(hdfs, monkeypatch):
    hdfs.put("/x", b"x")
    fs.stat("hdfs:///x")
    answer = _hdfs.Connection._answer

    def interrupted(self, name):
        monkeypatch.setattr(_hdfs.Connection, "_answer", answer)
        raise KeyboardInterrupt

    monkeypatch.setattr(_hdfs.Connection, "_answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fs.stat("hdfs:///none")
    assert fs.stat("hdfs:///x").size == 1


def test_a_forked_child_has_its_own_connections(hdfs):
    hdfs.put("/x", b"x")
    f, g = fs.open("hdfs:///x", "rb"), fs.open("hdfs:///y", "wb")
    g.write(b"1")
    pid = os.fork()
    if pid == 0:
        before = len(hdfs.asked)
        wrong = bool(_hdfs._idle) or f.read() != b"x" or "open" not in hdfs.asked[before:]
        try:
            g.flush()
            wrong = True
        except OSError:
            pass
        g.raw.close()
        os._exit(wrong)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    g.close()
    assert hdfs.files["/y"] == b"1" and f.read() == b"x"


def test_archives_of_a_runtime_env(hdfs, tmp_path):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("m.py", "X = 1")
    hdfs.put("/app.zip", made.getvalue())
    hdfs.put("/m.whl", made.getvalue())
    hdfs.put("/wrong.zip", b"what is that")
    packages = _packages.Packages(str(tmp_path))
    env = packages.settle({"working_dir": "hdfs:///app.zip", "py_modules": ["hdfs:///m.whl"]})
    name = "package:" + hashlib.sha256(made.getvalue()).hexdigest()
    assert env == {"working_dir": name, "py_modules": [name]} and os.listdir(tmp_path) == [name.partition(":")[2] + ".zip"]
    asked = len(hdfs.asked)
    assert packages.settle({"working_dir": "hdfs:///app.zip"}) == {"working_dir": name} and len(hdfs.asked) == asked
    for wrong, why in (("hdfs:///folder", "pack the directory"), ("hdfs:///m.whl", "pack the directory"), ("hdfs:///wrong.zip", "no zip archive")):
        with pytest.raises(ValueError, match=why):
            packages.settle({"working_dir": wrong})
    with pytest.raises(RuntimeEnvSetupError, match="hdfs:///none.zip could not be made.*No such file"):
        packages.settle({"working_dir": "hdfs:///none.zip"})
    assert not [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("maniple-package-")]


def test_the_binary_is_started_once_and_ends_with_its_last_user(tmp_path, monkeypatch):
    log = tmp_path / "log"
    binary = tmp_path / "maniple"
    binary.write_text(f"#!/bin/sh\necho $1 >> {log}\ncat > /dev/null\necho over >> {log}\n")
    binary.chmod(0o755)
    monkeypatch.setattr("maniple._binary.find_binary", lambda: str(binary))
    channel = _hdfs._Channel()
    first, second = channel.connect(), channel.connect()
    channel._control.close()
    channel._process.wait(10)
    first.close()
    second.close()
    assert log.read_text() == "hdfs-server\nover\n"


def test_fsspec():
    run_with_torch("torch_fsspec.py")
