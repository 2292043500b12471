"""Maniple for Python.

This package carries the ``maniple`` command. The programs that the command runs need nothing from here.
"""

from maniple._binary import find_binary
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("maniple")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

__all__ = ["__version__", "find_binary"]
