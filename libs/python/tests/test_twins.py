"""The C extension and its twin in Python: the same tests on both, and the same numbers as the wire."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

from maniple._core import frames, twin, wire

here = pathlib.Path(__file__).parents[1]
fast = pytest.mark.skipif(twin.fast is None, reason="the extension is not used: MANIPLE_PURE is set, or it is not built here")


def test_the_extension_is_used_where_it_can_be_built():
    if os.environ.get("MANIPLE_PURE"):
        pytest.skip("MANIPLE_PURE is set: this is the run of the other twin")
    if not shutil.which(os.environ.get("CC", "cc")) or not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
        pytest.skip("there is no C compiler, or no Python.h")
    assert twin.fast is not None, "ci/python/fast.sh builds it"


@fast
def test_the_other_twin_passes_the_same_tests():
    others = ["test_twins.py", "test_wheel.py", "test_demo.py", "test_binary.py", "test_package.py", "test_options.py"]  # all but those that meet neither
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"--ignore=tests/{name}" for name in others), "tests"]
    done = subprocess.run(argv, cwd=here, env={**os.environ, "MANIPLE_PURE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]


def offset(number, field):
    """Where a field of a struct begins, by the generated layout."""
    layout, struct = frames.STRUCTS[number]
    marks = [1 if name == field else 0 for name in layout._fields]
    return struct.pack(*marks).index(1)


@fast
def test_the_extension_s_numbers_are_the_wire_s():
    for name, number in twin.fast.layout().items():
        kind, _, field = name.partition(".")
        if field == "size":
            assert number == frames.STRUCTS[getattr(frames, kind)][1].size, name
        elif field:
            assert number == offset(getattr(frames, kind), field), name
        elif name == "CLASS_CALLS":
            written = ("RELEASE", "RECALLED", "STARTED")
            assert {frames.CLASS_OF.get(getattr(frames, kind), frames.CLASS_CONTROL) for kind in written} == {number}
        else:
            assert number == getattr(frames, name), name
    assert wire.SUBMIT.read(bytes(range(88))).task == wire.CALL.read(bytes(range(112))).task == bytes(range(16))  # it is first
