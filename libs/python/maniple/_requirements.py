"""What of a runtime_env has to be installed: pip, uv, conda, container and image_uri, as a driver gives them and as they go to agents.

An environment has one of them at most. Files are read here, once, since other nodes may not have them; so equal contents are equal texts.
What nodes make of it is _making's.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Optional, Tuple

FIELDS = ("pip", "uv", "conda", "container")  # as they go to agents; image_uri is a container there
KINDS = (*FIELDS, "image_uri")
YAML = "environment.yml"  # the key of a conda file's text
_DICTS: Dict[str, Dict[str, Any]] = {  # what the dicts may have, and of what type
    "pip": {"packages": list, "pip_check": bool, "pip_version": str, "pip_install_options": list},
    "uv": {"packages": list, "uv_check": bool, "uv_version": str, "uv_pip_install_options": list},
    "container": {"image": str, "run_options": list},
}
MOST = 100 << 10  # bytes of a field, which is a variable of a process
_WITH_FILE = ("-r", "--requirement", "-c", "--constraint", "-f", "--find-links", "-e", "--editable")


def check(env: Dict[str, Any]) -> Optional[str]:
    """What is wrong with these fields; None if nothing is."""
    given = [name for name in KINDS if env.get(name)]
    if len(given) > 1:
        return f"{given[0]} and {given[1]} of a runtime_env can't be had together: workers are started with the Python of one of them"
    for name in given:
        problem = _CHECKS[name](name, env[name])
        if problem:
            return problem
    return None


def _installed(name: str, value: Any) -> Optional[str]:
    if isinstance(value, (str, os.PathLike)):
        return None if os.path.isfile(value) else f"{name} of a runtime_env names the file {os.fspath(value)}, which is not there; a list has the packages themselves"
    if isinstance(value, dict):
        return _dict(name, value, "packages")
    return None if _texts(value) else f"{name} of a runtime_env is a list of requirements, a file of them, or a dict, not {value!r}"


def _conda(name: str, value: Any) -> Optional[str]:
    if isinstance(value, dict):
        try:
            json.dumps(value)
        except (TypeError, ValueError) as e:
            return f"conda of a runtime_env is what an {YAML} has, and this can't be written: {e}"
        return None
    if not isinstance(value, (str, os.PathLike)):
        return f"conda of a runtime_env is an environment's name, its directory, a .yml file or a dict of what that has, not {value!r}"
    if _is_yaml(value) and not os.path.isfile(value):
        return f"conda of a runtime_env names the file {os.fspath(value)}, which is not there"
    return None


def _container(name: str, value: Any) -> Optional[str]:
    return _dict(name, value, "image") if isinstance(value, dict) else f"container of a runtime_env is a dict with an image, not {value!r}"


def _image(name: str, value: Any) -> Optional[str]:
    return None if isinstance(value, str) else f"image_uri of a runtime_env is a text, such as a .sif file or docker://..., not {value!r}"


_CHECKS = {"pip": _installed, "uv": _installed, "conda": _conda, "container": _container, "image_uri": _image}


def _dict(name: str, value: Dict[str, Any], needed: str) -> Optional[str]:
    types = _DICTS[name]
    for key, one in value.items():
        if key not in types:
            return f"{name} of a runtime_env has no {key!r}; it has {', '.join(types)}"
        if one is not None and (not _texts(one) if types[key] is list else not isinstance(one, types[key])):
            return f"{key} of {name} is a {'list of texts' if types[key] is list else types[key].__name__}, not {one!r}"
    return None if value.get(needed) else f"{name} of a runtime_env needs {needed!r}"


def _texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(x, str) and "\n" not in x and "\0" not in x for x in value)


def _is_yaml(value: Any) -> bool:
    return os.fspath(value).endswith((".yml", ".yaml"))


def plain(env: Dict[str, Any]) -> Dict[str, Any]:
    """The environment with these fields as they go to agents. What is plain stays as it is. Raises ValueError for a file that can't be read."""
    env = dict(env)
    image = env.pop("image_uri", None)
    if image:
        env["container"] = {"image": image}
    for name in ("pip", "uv"):
        if env.get(name):
            env[name] = _listed(env[name])
    if env.get("container"):
        env["container"] = {key: value for key, value in env["container"].items() if value}
    if isinstance(env.get("conda"), os.PathLike):
        env["conda"] = os.fspath(env["conda"])
    if isinstance(env.get("conda"), str) and _is_yaml(env["conda"]):
        env["conda"] = {YAML: _read(env["conda"])}
    for name in FIELDS:
        size = len(json.dumps(env.get(name)))
        if size > MOST:
            raise ValueError(
                f"{name} of a runtime_env has {size >> 10} KiB, and nodes are told {MOST >> 10} at most: put the file on a path that all nodes have, and name it there, as in pip=['-r /shared/requirements.txt']"
            )
    return env


def _listed(given: Any) -> Dict[str, Any]:
    if isinstance(given, (str, os.PathLike)):
        return {"packages": _lines(os.fspath(given))}
    if isinstance(given, dict):
        return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items() if value}
    return {"packages": list(given)}


def _lines(path: str) -> List[str]:
    """A file of requirements. Files that it names by where they are from itself are named for all others."""
    here, found = os.path.dirname(os.path.abspath(path)), []
    for line in _read(path).splitlines():
        option, name = split(line.strip())
        if option in _WITH_FILE and name and not os.path.isabs(name) and os.path.exists(os.path.join(here, name)):
            line = f"{option} {os.path.join(here, name)}"
        if line.strip() and not line.lstrip().startswith("#"):
            found.append(line)
    return found


def split(line: str) -> Tuple[str, str]:
    """A line's option and what it names."""
    end = min((i for i in (line.find(" "), line.find("=")) if i >= 0), default=len(line))
    return line[:end], line[end + 1 :].strip()


def _read(path: Any) -> str:
    try:
        with open(path, encoding="utf-8") as f:
            return f.read()
    except (OSError, ValueError) as e:
        raise ValueError(f"{os.fspath(path)} of a runtime_env can't be read: {e}") from e


def over(base: Dict[str, Any], own: Dict[str, Any]) -> Dict[str, Any]:
    """base without what own has something in place of: one that names packages does not have its parent's image, too."""
    if any(own.get(name) for name in KINDS):
        return {name: value for name, value in base.items() if name not in KINDS}
    return base
