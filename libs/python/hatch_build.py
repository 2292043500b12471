"""Builds the static binary into the wheel and gives the wheel its platform tag."""

import os
import subprocess

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


# Linux's name of an architecture by Go's.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def tag(goarch):
    """Platform tag of a wheel with a binary for this architecture.

    A static binary runs on every glibc; the tag names the oldest that pip knows how to ask for.
    """
    if goarch not in MACHINES:
        raise ValueError(f"no wheel for GOARCH={goarch}: there is one for {' and '.join(MACHINES)}; build the binary with `make build`")
    machine = MACHINES[goarch]
    return f"py3-none-manylinux_2_17_{machine}.manylinux2014_{machine}"


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        top = os.path.dirname(os.path.dirname(os.path.abspath(self.root)))
        environ = {**os.environ, "CGO_ENABLED": "0", "GOOS": "linux"}
        goarch = subprocess.run(["go", "env", "GOARCH"], env=environ, check=True, capture_output=True, text=True).stdout.strip()
        build_data["tag"] = tag(goarch)
        build_data["pure_python"] = False
        out = os.path.join(self.root, "build", "maniple")
        os.makedirs(os.path.dirname(out), exist_ok=True)
        subprocess.run(
            ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./launcher/cmd/maniple"],
            cwd=top, check=True, env=environ,
        )
