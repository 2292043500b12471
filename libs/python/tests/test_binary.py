import os
import stat
import subprocess
import sys

import pytest

import maniple
from maniple import _binary


def put_fake(directory, text="echo hello \"$@\""):
    path = directory / "maniple"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_binary_on_the_path_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(_binary.sysconfig, "get_path", lambda name: str(tmp_path / "nowhere"))
    monkeypatch.setattr(_binary, "files", lambda name: [])
    fake = put_fake(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert maniple.find_binary() == str(fake)


def test_none_is_an_error_that_names_the_places(tmp_path, monkeypatch):
    monkeypatch.setattr(_binary.sysconfig, "get_path", lambda name: str(tmp_path / "scripts"))
    monkeypatch.setattr(_binary, "files", lambda name: [])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="scripts/maniple.*reinstall"):
        maniple.find_binary()


def test_module_runs_the_binary_with_its_arguments(tmp_path):
    put_fake(tmp_path)
    top = os.path.dirname(os.path.dirname(os.path.abspath(maniple.__file__)))
    code = "import maniple._binary as b, sysconfig, runpy, sys; b.sysconfig.get_path = lambda n: '/nonexistent'; b.files = lambda n: []; sys.argv = ['maniple', 'a', 'b']; runpy.run_module('maniple', run_name='__main__')"
    out = subprocess.run([sys.executable, "-c", code], env={"PATH": f"{tmp_path}:/bin:/usr/bin", "PYTHONPATH": top}, capture_output=True, text=True, check=True)
    assert out.stdout == "hello a b\n"
