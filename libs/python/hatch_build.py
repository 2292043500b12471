"""Builds the static binary into the wheel and gives the wheel its platform tag."""

import os
import subprocess

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        top = os.path.dirname(os.path.dirname(os.path.abspath(self.root)))
        out = os.path.join(self.root, "build", "maniple")
        os.makedirs(os.path.dirname(out), exist_ok=True)
        subprocess.run(
            ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./launcher/cmd/maniple"],
            cwd=top, check=True, env={**os.environ, "CGO_ENABLED": "0"},
        )
        # A static binary runs on every glibc; the tag names the oldest that pip knows how to ask for.
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64"
