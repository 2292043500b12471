"""Workers in a container: the command that starts their template there, and Maniple's own files for a Python that is not the driver's.

Clusters have apptainer, or singularity as it was called; neither needs root or a daemon. The image needs Python of the driver's version and nothing of
Maniple, which comes from outside.
"""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from importlib.util import find_spec
from typing import Any, Dict, List

_PACKAGES = ("maniple", "cloudpickle")
# Images have one or the other.
_SHELL = 'python=$(command -v python3 || command -v python) || { echo "the image has no python3"; exit 127; }; exec "$python" "$@"'
_GPUS = (("/dev/nvidiactl", "--nv"), ("/dev/kfd", "--rocm"))


class Failed(Exception):
    """What an environment asks for can't be had here; the text says why and what to do."""


def _sources() -> List[str]:
    """Directories of what a worker imports before anything of the user's."""
    found = []
    for name in _PACKAGES:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            found.append(os.path.realpath(list(spec.submodule_search_locations)[0]))
    return found


def sdk(under: str) -> str:
    """A directory with these packages alone, so that a Python which imports from there finds nothing else of the driver's."""
    sources = _sources()
    path = os.path.join(under, "sdk-" + sha256("\0".join(sources).encode()).hexdigest()[:16])
    if not os.path.isdir(path):
        first = f"{path}.{os.getpid()}"
        os.mkdir(first, 0o700)
        for source in sources:
            os.symlink(source, os.path.join(first, os.path.basename(source)))
        try:
            os.rename(first, path)
        except OSError:  # another one was here first
            shutil.rmtree(first)
    return path


def isolate(env: Dict[str, str], directory: str) -> None:
    """Has another Python than the driver's look into a directory after those that the user named, and not for what lies in the user's home, which is for the driver's."""
    env["PYTHONNOUSERSITE"] = "1"
    env["PYTHONPATH"] = os.pathsep.join([*filter(None, [env.get("PYTHONPATH")]), directory])


def command(given: Dict[str, Any], under: str, own: str, env: Dict[str, str], template: List[str]) -> List[str]:
    """How a template is started in an image. under: where environments are, in the directory of all that this user's nodes have here. own: as sdk; env: the
    template's, which is changed. Raises Failed."""
    program = shutil.which("apptainer") or shutil.which("singularity")
    if program is None:
        raise Failed("neither apptainer nor singularity is on PATH: load the site's module before the driver starts")
    isolate(env, own)
    image = given["image"]
    if image.startswith(("/", ".")) and not os.path.exists(image):
        raise Failed(f"the image {image} is not on this node: put it on a path that all nodes have")
    if "://" not in image and not os.path.exists(image):
        image = "docker://" + image
    binds: List[str] = []
    for path in (os.path.dirname(under), os.path.dirname(env.get("MANIPLE_ADDRESS", "")), "/dev/shm", env.get("TMPDIR", ""), os.getcwd(), *_sources()):
        if path and os.path.isdir(path) and path not in binds:
            if ":" in path or "," in path:
                raise Failed(f"{path} can't be had in a container: {program} takes no path with a colon or a comma")
            binds.append(path)
    gpus = [flag for device, flag in _GPUS if os.path.exists(device)]
    return [program, "exec", *gpus, "--bind", ",".join(binds), "--pwd", os.getcwd(), *(given.get("run_options") or ()), image, "sh", "-c", _SHELL, "sh", *template]
