"""Where the binary of this installation is."""

import os
import shutil
import sysconfig
from importlib.metadata import PackageNotFoundError, files


def find_binary():
    """Path of the ``maniple`` binary (str): the one installed with this package, else the first on PATH, else that of this YARN container.

    Raises FileNotFoundError, naming the places looked at, when there is none.
    """
    looked = []
    try:
        recorded = [f for f in files("maniple") or [] if f.name == "maniple" and f.parent.name in ("bin", "Scripts")]
    except PackageNotFoundError:
        recorded = []
    candidates = [str(f.locate()) for f in recorded] + [os.path.join(sysconfig.get_path("scripts"), "maniple")]
    for path in candidates:
        looked.append(path)
        if os.access(path, os.X_OK):
            return os.path.realpath(path)
    found = shutil.which("maniple")
    if found:
        return found
    container = os.path.join(os.environ.get("MANIPLE_NODE_DIR", ""), "maniple")
    if os.path.isabs(container) and os.access(container, os.X_OK):
        return container
    raise FileNotFoundError(f"the maniple binary is neither at {' nor at '.join(looked)} nor on PATH: reinstall the wheel")
