"""Runtime environments: what workers are to have beside what the driver has. A dict does as well as RuntimeEnv."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, Dict, List, Optional, Sequence, Union

from maniple import _requirements, exceptions

FIELDS = ("env_vars", "working_dir", "py_modules", "excludes", *_requirements.KINDS, "config")
_CONFIG = ("setup_timeout_seconds", "eager_install", "log_files")
# What would be fetched from elsewhere, or is another program's doing, and what does the same here.
_INSTEAD = {
    "py_executable": "workers run the driver's Python: start the driver with that one",
    **dict.fromkeys(("nsight", "rocprof_sys", "_nsight"), "run the profiler around the code inside of the task"),
    **dict.fromkeys(("java_jars", "mpi", "worker_process_setup_hook"), "call it at the beginning of the task or of the actor's constructor"),
}  # fmt: skip


class RuntimeEnvConfig(Dict[str, Any]):
    """How an environment is made. setup_timeout_seconds: 600 unless given, -1 for ever. eager_install and log_files are taken and mean nothing:
    a node makes an environment when it first has a task for it."""

    def __init__(self, setup_timeout_seconds: int = 600, eager_install: bool = True, log_files: Optional[List[str]] = None):
        super().__init__(setup_timeout_seconds=setup_timeout_seconds, eager_install=eager_install)
        problem = _config(self)
        if problem:
            raise ValueError(problem)


class RuntimeEnv(Dict[str, Any]):
    """A runtime environment with its fields as arguments. Raises ValueError for wrong ones, RuntimeEnvSetupError for those that are not there.

    env_vars: variables, in which ${NAME} stands for the driver's. working_dir: a directory or .zip that workers run in and import from.
    py_modules: directories, .py files, wheels and modules that they can import. A .zip and a wheel may be on HDFS (hdfs://...). excludes: what of those directories is left out, as in a
    .gitignore. pip, uv: packages to install over what the driver has; conda: an environment to run in instead; container, image_uri: an image to
    run in; one of these at most. config: a RuntimeEnvConfig, or a dict of its arguments.
    """

    def __init__(
        self, *, env_vars: Optional[Dict[str, str]] = None, working_dir: Optional[str] = None, py_modules: Optional[Sequence[Any]] = None,
        excludes: Optional[Sequence[str]] = None, pip: Any = None, uv: Any = None, conda: Any = None, container: Optional[Dict[str, Any]] = None,
        image_uri: Optional[str] = None, config: Optional[Dict[str, Any]] = None, **other: Any,
    ):  # fmt: skip
        given = {
            "env_vars": env_vars, "working_dir": working_dir, "py_modules": py_modules, "excludes": excludes,
            "pip": pip, "uv": uv, "conda": conda, "container": container, "image_uri": image_uri, "config": config, **other,
        }  # fmt: skip
        super().__init__({name: value for name, value in given.items() if value is not None})
        problem = check(self)
        if problem:
            raise ValueError(problem)


def check(env: Any) -> Optional[str]:
    """What is wrong with an environment; None if nothing is. Raises RuntimeEnvSetupError for a field of Ray's that is not there."""
    if env is None:
        return None
    if not isinstance(env, dict):
        return f"a runtime_env is a dict or a RuntimeEnv, not a {type(env).__name__}"
    for name, value in env.items():
        if name in _INSTEAD and value:
            raise exceptions.RuntimeEnvSetupError(f"runtime_env has no {name!r} here: {_INSTEAD[name]}")
        if name not in FIELDS and name not in _INSTEAD:
            return f"runtime_env has no {name!r}; it has {', '.join(FIELDS)}"
    return _variables(env.get("env_vars")) or _paths(env) or _requirements.check(env) or _config(env.get("config"))


def _variables(env_vars: Any) -> Optional[str]:
    if env_vars is None or (isinstance(env_vars, dict) and all(isinstance(x, str) for item in env_vars.items() for x in item)):
        wrong = [name for name, value in (env_vars or {}).items() if not name or "=" in name or "\0" in name + value]
        return f"env_vars of a runtime_env has a name or a value that no environment can have: {wrong[0]!r}" if wrong else None
    return f"env_vars of a runtime_env is a dict of texts, not {env_vars!r}"


def _paths(env: Dict[str, Any]) -> Optional[str]:
    directory, modules, excludes = env.get("working_dir"), env.get("py_modules"), env.get("excludes")
    if directory is not None and not isinstance(directory, (str, os.PathLike)):
        return f"working_dir of a runtime_env is a path, not {directory!r}"
    if modules is not None and not (isinstance(modules, (list, tuple)) and all(isinstance(m, (str, os.PathLike, ModuleType)) for m in modules)):
        return f"py_modules of a runtime_env is a list of paths and modules, not {modules!r}"
    if excludes is not None and not (isinstance(excludes, (list, tuple)) and all(isinstance(x, str) for x in excludes)):
        return f"excludes of a runtime_env is a list of patterns, not {excludes!r}"
    return next((problem for problem in map(_remote, [directory, *(modules or ())]) if problem), None)


def _remote(path: Union[None, str, "os.PathLike[str]", ModuleType]) -> Optional[str]:
    if isinstance(path, str) and "://" in path:
        return f"{path} of a runtime_env would have to be fetched: fetch it before the driver starts, and name where it is then"
    return None


def _config(config: Any) -> Optional[str]:
    if config is None:
        return None
    if not isinstance(config, dict):
        return f"config of a runtime_env is a dict or a RuntimeEnvConfig, not {config!r}"
    for name in config:
        if name not in _CONFIG:
            return f"config of a runtime_env has no {name!r}; it has {', '.join(_CONFIG)}"
    seconds = config.get("setup_timeout_seconds", 600)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or (seconds <= 0 and seconds != -1):
        return f"setup_timeout_seconds is a whole number above 0, or -1 for ever, not {seconds!r}"
    return None


def plain(env: Dict[str, Any]) -> Dict[str, Any]:
    """The environment as it goes to agents: without what says nothing, so that equal ones have equal texts. Raises ValueError for a file that can't be read."""
    env = _requirements.plain({name: value for name, value in env.items() if value and name in FIELDS})
    seconds = (env.pop("config", None) or {}).get("setup_timeout_seconds", 600)
    if seconds != 600:
        env["config"] = {"setup_timeout_seconds": seconds}
    return env
