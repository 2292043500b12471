"""Packages: directories and modules of a job's drivers, as workers on all nodes have them.

A package is a zip archive that is named by the SHA-256 of its bytes. A process here puts it into the job's directory on this node; agents
pass it on, and each unpacks it there once (docs/adr/0016-packages.md).
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any, Dict, Tuple

from maniple import exceptions

SCHEME = "package:"


class Packages:
    """The packages of a session that were named here. A directory is read once: a job sees it as it was then.

    directory: of the job on this node, as the agent said; "": it said none.
    """

    def __init__(self, directory: str):
        self._directory = directory
        self._named: Dict[Any, str] = {}

    def settle(self, env: Dict[str, Any]) -> Dict[str, Any]:
        """An environment with packages in place of paths. Raises ValueError for a wrong path, RuntimeEnvSetupError if there is no room."""
        env = dict(env)
        excludes = tuple(env.pop("excludes", None) or ())
        if env.get("working_dir"):
            env["working_dir"] = self._name("working_dir", env["working_dir"], excludes)
        if env.get("py_modules"):
            env["py_modules"] = [self._name("py_modules", given, excludes) for given in env["py_modules"]]
        return {key: value for key, value in env.items() if value}

    def _name(self, field: str, given: Any, excludes: Tuple[str, ...]) -> str:
        if isinstance(given, str) and given.startswith(SCHEME):
            return given
        far = isinstance(given, ModuleType) or str(given).startswith("hdfs://")
        key = field, given if far else os.path.abspath(os.fspath(given)), excludes
        if key not in self._named:
            try:
                from maniple import _archive

                make = _archive.of_working_dir if field == "working_dir" else _archive.of_module
                self._named[key] = self._put(make(given, excludes))
            except OSError as e:
                raise exceptions.RuntimeEnvSetupError(f"the package of {given} could not be made: {e}") from e
        return self._named[key]

    def _put(self, made: Any) -> str:
        import shutil

        try:
            if not self._directory:
                raise exceptions.RuntimeEnvSetupError("the agent has no directory for packages: working_dir and py_modules can't be had here")
            os.makedirs(self._directory, 0o700, exist_ok=True)
            last = os.path.join(self._directory, made.hash + ".zip")
            first = f"{last}.{os.getpid()}"
            shutil.move(made.path, first)
            os.replace(first, last)
        except BaseException:
            if os.path.exists(made.path):
                os.unlink(made.path)
            raise
        return SCHEME + made.hash


def enter(env: Dict[str, Any], directory: str) -> None:
    """In a worker before all else: runs in its working_dir, and imports from there and from its modules first."""

    def unpacked(name: str) -> str:
        return os.path.join(directory, name[len(SCHEME) :])

    paths = [unpacked(name) for name in env.get("py_modules") or ()]
    if env.get("working_dir"):
        paths.insert(0, unpacked(env["working_dir"]))
        os.chdir(paths[0])
    if paths:
        sys.path[:0] = paths
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([*paths, before] if before else paths)
