"""``python -m maniple``: the same as the ``maniple`` command."""

import os
import sys

from maniple import find_binary

if __name__ == "__main__":
    path = find_binary()
    os.execv(path, [path, *sys.argv[1:]])
