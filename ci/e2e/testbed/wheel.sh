#!/usr/bin/env bash
# Installs the wheel for the Python of Debian 13 (3.13), in a tree of that system, runs a program on it, and with it the package's own tests.
#   wheel.sh [PYTEST ARGUMENT...]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"
debian_tree
cd "$top"
rm -f dist/maniple-*.whl
make -s wheel >&2
cp dist/maniple-*.whl "$bin/"
mkdir -p "$bin/libs/python" "$bin/rt/agent/work" "$bin/launcher"
cp ci/e2e/programs/everything.py "$bin/"
# The tests and what they read beside the package, which is the wheel's.
cp -r libs/python/tests "$bin/libs/python/"; cp -r rt/agent/work/testdata "$bin/rt/agent/work/"; cp -r launcher/demo "$bin/launcher/"
debian_run "$bin" bash -ec '
  [ "$(python3 -c "import sys; print(\"%d.%d\" % sys.version_info[:2])")" = 3.13 ] || { python3 --version; exit 1; }
  python3 -m venv /tmp/venv
  /tmp/venv/bin/pip install -q --disable-pip-version-check ./maniple-*.whl numpy pytest
  unset MANIPLE_BINARY # the wheel has its own
  PATH=/tmp/venv/bin:$PATH
  maniple version
  python everything.py
  exec python -m pytest -q -rs -p no:cacheprovider "$@"' - libs/python/tests "$@"
