"""The wheel says for which machine the binary in it is."""

import importlib.util
import pathlib
import platform
import shutil
import struct
import subprocess
import sys
import zipfile

import pytest

from test_twins import can_compile

pytest.importorskip("hatchling")
here = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("hatch_build", here / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_architecture_without_a_wheel_is_refused(hook):
    with pytest.raises(ValueError, match="riscv64.*amd64 and arm64"):
        hook.tag("riscv64")


def test_the_tag_names_the_glibc_that_the_extension_needs(hook):
    assert hook.tag("amd64", b"GLIBC_2.2.5 GLIBC_2.14") == "cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64"
    assert hook.tag("amd64", b"GLIBC_2.2.5 GLIBC_2.34 GLIBC_2.4") == "cp39-abi3-manylinux_2_34_x86_64"


# e_machine of an ELF file.
@pytest.mark.parametrize("goarch,machine,elf", [("amd64", "x86_64", 62), ("arm64", "aarch64", 183)])
def test_tag_and_binaries_are_of_one_machine(hook, tmp_path, monkeypatch, goarch, machine, elf):
    if not shutil.which("go"):
        pytest.skip("needs Go to build the binary")
    monkeypatch.setenv("GOARCH", goarch)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, here], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        fast = [n for n in files.namelist() if n.endswith(".so")]
        made = can_compile() and platform.machine() == machine  # where it can't be compiled the wheel is Python and says so
        assert fast == (["maniple/_core/_fast.abi3.so"] if made else [])
        assert wheel.name.endswith(f"-{'cp39-abi3' if made else 'py3-none'}-manylinux_2_17_{machine}.manylinux2014_{machine}.whl")
        assert not [n for n in files.namelist() if n.endswith((".c", ".h"))]
        (name,) = [n for n in files.namelist() if n.endswith("/scripts/maniple")]
        (points,) = [n for n in files.namelist() if n.endswith("/entry_points.txt")]
        assert "[fsspec.specs]\nhdfs = maniple._fsspec:HDFSFileSystem" in files.read(points).decode()
        head = files.read(name)[:20]
        zig = subprocess.run(["bash", here.parents[1] / "ci" / "python" / "env.sh", "native"], capture_output=True).returncode == 0
        native = [files.read(n) for n in files.namelist() if n.endswith("/scripts/maniple-native")]
        assert bool(native) == (zig and platform.machine() == machine)
        for binary in native:
            assert struct.unpack_from("<H", binary, 18) == (elf,)
            assert hook.glibc(binary) == (2, 17)
        assert f'"{wheel.name.split("-")[1]}"' in files.read("maniple/_version.py").decode()
    assert head[:4] == b"\x7fELF" and struct.unpack_from("<H", head, 18) == (elf,)
