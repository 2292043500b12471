"""Has the tests of torch_tensors.py run."""

import os
import subprocess

import pytest

from test_template import python_with_torch

_RUN = "import sys; sys.path.append(sys.argv[1]); import pytest; sys.exit(pytest.main(sys.argv[2:]))"


def run_with_torch(name, *arguments, **environment):
    """Has a file of tests run by a Python that has torch."""
    python = python_with_torch()
    if python is None:
        pytest.skip("needs torch")
    tests = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    ours = os.path.dirname(os.path.dirname(pytest.__file__))  # an environment for training has no pytest
    done = subprocess.run([python, "-c", _RUN, ours, "-q", "-p", "no:cacheprovider", *arguments, tests], capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr


def test_tensors():
    run_with_torch("torch_tensors.py")
