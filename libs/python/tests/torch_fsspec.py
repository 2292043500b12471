"""HDFS by fsspec, which torch brings along. test_fs.py has it run, with its server in this process."""

import bz2
import errno
import gc
import gzip
import os

import fsspec
import pytest
from test_fs import Cycle, hdfs  # noqa: F401

from maniple._fsspec import HDFSFileSystem

fsspec.register_implementation("hdfs", HDFSFileSystem, clobber=True)


@pytest.fixture
def filesystem(hdfs):  # noqa: F811
    HDFSFileSystem.clear_instance_cache()
    return fsspec.filesystem("hdfs")


class Broken(Exception):
    pass


def test_what_is_compressed_is_written_when_it_is_closed(filesystem, hdfs):  # noqa: F811
    with filesystem.open("/a.gz", "wb", compression="gzip") as f:
        f.write(b"some words")
        assert "/a.gz" not in hdfs.files
    assert gzip.decompress(hdfs.files["/a.gz"]) == b"some words"
    with filesystem.open("/b.bz2", "w", compression="infer", newline="\n") as f:
        f.write("größer\nand more\n")
    assert bz2.decompress(hdfs.files["/b.bz2"]).decode() == "größer\nand more\n"
    assert filesystem.open("/b.bz2", "r", compression="infer").readlines() == ["größer\n", "and more\n"]
    with filesystem.open("/a.gz", compression="infer") as f:
        assert f.read(4) == b"some" and f.seek(1) == 1 and list(f) == [b"ome words"]
    with fsspec.open("hdfs:///c.gz", "wt", compression="infer") as f:
        f.write("c")
    assert gzip.decompress(hdfs.files["/c.gz"]) == b"c"
    f = filesystem.open("/plain", "wb", compression="infer")
    f.write(b"p")
    f.close()
    assert hdfs.files["/plain"] == b"p"


@pytest.mark.parametrize("mode", ["w", "wb", "x", "xb"])
@pytest.mark.parametrize("compression", [None, "gzip", "bz2", "xz"])
def test_a_block_that_fails_leaves_what_was(filesystem, hdfs, mode, compression):  # noqa: F811
    if "w" in mode:
        hdfs.put("/x", b"old")
    before = dict(hdfs.files)
    with pytest.raises(Broken):
        with filesystem.open("/x", mode, compression=compression) as f:
            f.write(b"new" * 1000 if "b" in mode else "new" * 1000)
            raise Broken
    assert hdfs.files == before and f.closed
    with pytest.raises(Broken):
        with filesystem.transaction:
            with filesystem.open("/x", mode, compression=compression) as f:
                f.write(b"new" if "b" in mode else "new")
            raise Broken
    assert hdfs.files == before
    with filesystem.transaction:
        with filesystem.open("/x", mode, compression=compression) as f:
            f.write(b"new" if "b" in mode else "new")
        assert hdfs.files == before
    with filesystem.open("/x", compression=compression) as f:
        assert f.read() == b"new"


@pytest.mark.parametrize("keep", [lambda f: None, Cycle], ids=["", "cycle"])
@pytest.mark.parametrize("mode", ["w", "wb"])
@pytest.mark.parametrize("compression", [None, "gzip", "bz2", "xz"])
def test_what_nobody_closes_leaves_what_was(filesystem, hdfs, mode, compression, keep):  # noqa: F811
    hdfs.put("/x", b"old")
    with pytest.warns(ResourceWarning, match="hdfs:///x was not closed"):
        f = filesystem.open("/x", mode, compression=compression)
        f.write(b"new" if "b" in mode else "new")
        keep(f)
        del f
        gc.collect()
    assert hdfs.files["/x"] == b"old" and "commit" not in hdfs.asked


def test_fsspec_open_does_not_say_that_its_block_failed(hdfs):  # noqa: F811
    """As with its other file systems: what was written takes its place (docs/guide/hdfs.md)."""
    with pytest.raises(Broken):
        with fsspec.open("hdfs:///x", "wb") as f:
            f.write(b"half of it")
            raise Broken
    assert hdfs.files["/x"] == b"half of it"


def test_what_a_compressor_can_not_write_is_an_error(filesystem, hdfs):  # noqa: F811
    hdfs.put("/x", b"old")
    with pytest.raises(OSError, match="hdfs:///x"):
        with filesystem.open("/x", "wb", compression="gzip") as f:
            f.write(os.urandom(11 << 20))
    assert hdfs.files["/x"] == b"old"


def test_what_can_be_read_again_is_copied_again(filesystem, hdfs, tmp_path):  # noqa: F811
    (tmp_path / "local").write_bytes(b"what a disk has" * 1000)
    hdfs.put("/old", b"what HDFS has")
    for copy, want in (lambda: filesystem.put(str(tmp_path / "local"), "/put"), ("/put", b"what a disk has" * 1000)), (lambda: filesystem.cp("/old", "/new"), ("/new", b"what HDFS has")):
        for broken, raises in ([errno.EIO] * 2, None), ([errno.EIO] * 3, errno.EIO), ([errno.EDQUOT], errno.EDQUOT):
            hdfs.broken[:] = broken
            hdfs.files.pop(want[0], None)
            if raises is None:
                copy()
                assert hdfs.files[want[0]] == want[1]
                continue
            with pytest.raises(OSError) as caught:
                copy()
            assert caught.value.errno == raises and want[0] not in hdfs.files and not hdfs.broken
