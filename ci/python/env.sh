#!/usr/bin/env bash
# Prints the Python of a cached environment outside the tree, making it first if needed.
#   env.sh demo|dev          from the requirements in NAME.txt beside this file
# A change of the requirements or of the Python version makes a new one. Two at a time wait for each other.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=${1:?usage: env.sh NAME}
list=$here/$name.txt
[ -f "$list" ] || { echo "env.sh: no such environment: $name (there is: $(cd "$here" && ls ./*.txt | tr -d '\n'))" >&2; exit 64; }
base=${MANIPLE_PYTHON:-python3}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/maniple
key=$( { "$base" -c 'import sys; print(sys.version, sys.base_prefix)'; grep -v '^#' "$list"; } | sha256sum | cut -c1-12)
env=$cache/python-$name-$key
mkdir -p "$cache"
exec 9>"$cache/python-$name.lock"
flock 9
if [ ! -e "$env/.complete" ]; then
  need=$([ "$name" = demo ] && echo 9000000 || echo 300000)
  free=$(df -Pk "$cache" | awk 'NR==2{print $4}')
  [ "$free" -ge "$need" ] || { echo "env.sh: $cache has $((free / 1024)) MiB free, the environment '$name' needs $((need / 1024)): set XDG_CACHE_HOME to a larger disk" >&2; exit 73; }
  echo "preparing the Python environment '$name' in $env (once; some minutes)" >&2
  rm -rf "$env"
  "$base" -m venv "$env" >&2
  "$env/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile -r "$list" >&2
  "$env/bin/python" -m compileall -q "$env/lib" >/dev/null 2>&1 || true
  touch "$env/.complete"
fi
# The tree's extension is as new as its sources, whoever runs from the tree; why there is none, `make wheel` says.
"$here/fast.sh" "$env/bin/python" 2>/dev/null
echo "$env/bin/python"
