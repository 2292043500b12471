"""The package itself: what it needs, how long its import takes, that the layers fit."""

import os
import subprocess
import sys

import maniple
from maniple._core import frames, wire

TOP = os.path.dirname(os.path.dirname(os.path.abspath(maniple.__file__)))


def run(code, *flags):
    return subprocess.run([sys.executable, *flags, "-c", code], env={"PYTHONPATH": TOP, "PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60)


def test_import_is_quick_and_loads_nothing():
    took = []
    for _ in range(5):
        done = run("import time; a = time.perf_counter(); import maniple; print(time.perf_counter() - a)")
        took.append(float(done.stdout))
    assert min(took) < 0.030
    done = run("import sys; old = set(sys.modules); import maniple; print(sorted(set(sys.modules) - old))")
    assert eval(done.stdout) == ["maniple"]


def test_every_name_is_there_and_needs_only_the_standard_library():
    """-S: without site-packages, and so without cloudpickle."""
    done = run("import maniple; [getattr(maniple, n) for n in maniple.__all__ if n != '__version__']; import maniple.util as u; [getattr(u, n) for n in u._PLACES]; print(len(maniple.__all__))", "-S", "-B")
    assert done.returncode == 0 and int(done.stdout) > 15, done.stderr


def test_unknown_names_are_attribute_errors():
    for module in (maniple, maniple.util):
        try:
            module.no_such_name
        except AttributeError as e:
            assert "no_such_name" in str(e)
        else:
            raise AssertionError("no error")
    assert "get" in dir(maniple) and "ActorPool" in dir(maniple.util)


def test_fields_are_where_the_code_puts_them():
    """Frames are packed by position: what transport/wire appends or moves has to be looked at here."""
    fields = {hot.name: hot._tuple._fields for hot in vars(wire).values() if isinstance(hot, wire.Hot)}
    assert fields["SUBMIT"] == ("task", "parent", "function", "job", "attempt", "deadline", "trace", "shape", "returns", "deps", "refs", "format")
    assert fields["CALL"] == (
        "task", "parent", "actor", "sequence", "job", "attempt", "deadline", "trace", "method", "incarnation", "returns", "deps", "refs", "shape", "format",
    )  # fmt: skip
    assert fields["RESULT"] == ("object", "attempt", "flags", "format", "refs", "size", "peak_memory", "cpu_time")
    assert fields["PUT"] == ("object", "format", "refs") and fields["RELEASE"] == ("object", "deliveries")
    assert fields["GET"] == ("object", "deadline", "want") and fields["READY"] == ("object", "state", "size")
    assert fields["CANCEL"] == ("task", "force", "recursive") and fields["RECALLED"] == ("task", "started")
    assert fields["CREDIT"] == ("bytes", "records", "class_")


def test_compact_structs_are_the_same_bytes():
    for hot in vars(wire).values():
        if isinstance(hot, wire.Hot):
            raw = bytes(range(1, hot.size + 1))
            layout, struct = frames.STRUCTS[hot.number]
            zeroed = struct.pack(*struct.unpack(raw))
            assert hot.pack(0, 0, *hot.read(raw))[wire.HEADER_SIZE :] == zeroed
