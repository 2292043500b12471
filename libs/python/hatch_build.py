"""Builds the binaries and the C extension into the wheel and gives the wheel its tag."""

import os
import platform
import re
import subprocess
import sys

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


# Linux's name of an architecture by Go's.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


EXTENSION = "maniple/_core/_fast.abi3.so"
OLDEST = (2, 17)  # glibc: the oldest that pip knows how to ask for


def glibc(extension):
    """The glibc that a shared library needs, by the versions of the symbols that it names."""
    found = re.findall(rb"GLIBC_(\d+)\.(\d+)", extension)
    return max([OLDEST, *((int(major), int(minor)) for major, minor in found)])


def tag(goarch, extension=None):
    """Tag of a wheel with a binary for this architecture, and with the bytes of an extension or without one.

    A static binary runs on every glibc, maniple-native from OLDEST on; what the extension needs is read out of it.
    """
    if goarch not in MACHINES:
        raise ValueError(f"no wheel for GOARCH={goarch}: there is one for {' and '.join(MACHINES)}; build the binary with `make build`")
    machine, needed = MACHINES[goarch], OLDEST if extension is None else glibc(extension)
    platforms = f"manylinux_{needed[0]}_{needed[1]}_{machine}" + (f".manylinux2014_{machine}" if needed == OLDEST else "")
    return f"{'py3-none' if extension is None else 'cp39-abi3'}-{platforms}"


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        top = os.path.dirname(os.path.dirname(os.path.abspath(self.root)))
        environ = {**os.environ, "CGO_ENABLED": "0", "GOOS": "linux"}
        goarch = subprocess.run(["go", "env", "GOARCH"], env=environ, check=True, capture_output=True, text=True).stdout.strip()
        extension = None
        if MACHINES.get(goarch) == platform.machine():
            subprocess.run(["bash", os.path.join(top, "ci", "python", "fast.sh"), sys.executable], check=True)
            try:
                with open(os.path.join(self.root, EXTENSION), "rb") as f:
                    extension = f.read()
                build_data["artifacts"].append(EXTENSION)  # git ignores it
            except FileNotFoundError:  # the script has said why
                pass
        else:
            print(f"maniple: without the C extension: this machine can't compile it for {goarch}", file=sys.stderr)
        build_data["tag"] = tag(goarch, extension)
        numbered = os.path.join(self.root, "build", "_version.py")
        os.makedirs(os.path.dirname(numbered), exist_ok=True)
        with open(numbered, "w") as f:
            f.write(f'"""The version of this package."""\n\nVERSION = "{self.metadata.version}"\n')
        build_data["force_include"][numbered] = "maniple/_version.py"
        build_data["pure_python"] = False
        out = os.path.join(self.root, "build", "maniple")
        subprocess.run(
            ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./launcher/cmd/maniple"],
            cwd=top, check=True, env=environ,
        )
        if MACHINES.get(goarch) == platform.machine():  # others were built and never run
            beside = out + "-native"
            subprocess.run(["bash", os.path.join(top, "ci", "native", "build.sh"), beside], check=True)
            if os.path.exists(beside):  # else the script has said why
                build_data["shared_scripts"][beside] = "maniple-native"
