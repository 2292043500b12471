#!/usr/bin/env bash
# The main job of the product on this machine: a cluster of 2 nodes, a gang of 2 nodes x 2 ranks, a real training run.
#   MANIPLE_DEMO_OUT=DIR   where checkpoint, metrics and plot go (default: build/demo; empty: a folder that is removed again)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(ci/python/env.sh demo)
make --no-print-directory build
out=${MANIPLE_DEMO_OUT-build/demo}
if [ -z "$out" ]; then out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; fi
rm -rf "$out"; mkdir -p "$out"
build/maniple run --fake-nodes 2 -N 2 --ntasks-per-node 2 --job-name digits -- "$python" ci/e2e/programs/digits.py --out "$out"
for file in checkpoint.pt metrics.json curves.png; do
  [ -s "$out/$file" ] || { echo "demo: $out/$file is missing" >&2; exit 1; }
done
"$python" - "$out/metrics.json" <<'PY'
import json, sys
run = json.load(open(sys.argv[1]))
assert run["world_size"] == 4, f"world size {run['world_size']}"
best = run["history"][-1]["accuracy"]
assert best > 0.95, f"held-out accuracy {best}"
PY
