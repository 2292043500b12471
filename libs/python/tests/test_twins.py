"""The C extension and its twin in Python: the same tests on both."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

from maniple._core import twin

here = pathlib.Path(__file__).parents[1]
fast = pytest.mark.skipif(twin.fast is None, reason="the extension is not used: MANIPLE_PURE is set, or it is not built here")


def can_compile():
    return bool(shutil.which(os.environ.get("CC", "cc"))) and os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))


def test_the_extension_is_used_where_it_can_be_built():
    if os.environ.get("MANIPLE_PURE"):
        pytest.skip("MANIPLE_PURE is set: this is the run of the other twin")
    if not can_compile():
        pytest.skip("there is no C compiler, or no Python.h")
    assert twin.fast is not None, "ci/python/fast.sh builds it"


@fast
def test_the_other_twin_passes_the_same_tests():
    others = ["test_twins.py", "test_wheel.py", "test_demo.py", "test_binary.py", "test_package.py", "test_options.py"]  # all but those that meet neither
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=300", *(f"--ignore=tests/{name}" for name in others), "tests"]
    done = subprocess.run(argv, cwd=here, env={**os.environ, "MANIPLE_PURE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
