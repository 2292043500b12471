#!/usr/bin/env bash
# What only a machine with an NVIDIA GPU can tell, as one table, in less than eight minutes. It needs bash, nvidia-smi and a Python that has torch with CUDA and
# cloudpickle; no Go, no compiler and no network: what is checked is the wheel in dist/, with the two binaries in it.
#   make wheel         here, or where there is a compiler; then carry dist/ along with the tree
#   ci/gpu/check.sh    there; MANIPLE_GPU_PYTHON=PROGRAM names another Python than python3
# Without a GPU each line says "not run". Exit code: 0 nothing failed, 1 a check did (its last lines are on stderr), 69 there is a GPU and not what the checks need.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 69
python=${MANIPLE_GPU_PYTHON:-python3}
limit=95 # seconds for each check

names=("NVML beside nvidia-smi" "two gangs of half a GPU" "NCCL, DDP with one rank" "tensors by CUDA IPC")
checks=(nvml halves ddp tensors)
rows=()
row() { rows+=("$(printf '| %-24s | %-7s | %6s | %s |' "$@")"); }
table() { printf '| %-24s | %-7s | %6s | %s |\n' check result "s" "what was seen"; printf '| --- | --- | ---: | --- |\n'; printf '%s\n' "${rows[@]}"; }
not_run() {
  for name in "${names[@]}"; do row "$name" "not run" "" "$1"; done
  table
  exit "$2"
}

command -v nvidia-smi >/dev/null || not_run "no GPU: no nvidia-smi here" 0
if ! gpus=$(nvidia-smi -L 2>&1) || [ -z "$gpus" ]; then not_run "no GPU: nvidia-smi -L: ${gpus%%$'\n'*}" 0; fi
wheels=(dist/maniple-*.whl)
if [ ! -e "${wheels[0]}" ] || [ "${#wheels[@]}" != 1 ]; then not_run "dist/ has to hold one wheel: make wheel" 69; fi
"$python" -c 'import cloudpickle, torch; torch.zeros(1).cuda()' 2>/dev/null || not_run "$python has no torch that reaches the GPU, or no cloudpickle: MANIPLE_GPU_PYTHON names another" 69

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --target "$tmp/site" "${wheels[0]}" || not_run "the wheel can't be installed by $python -m pip" 69
export PATH=$tmp/site/bin:$PATH PYTHONPATH=$tmp/site${PYTHONPATH:+:$PYTHONPATH} TMPDIR=$tmp
failed=0
for i in "${!checks[@]}"; do
  began=$SECONDS result=passed
  timeout -k 10 "$limit" "$python" ci/gpu/checks.py "${checks[i]}" >"$tmp/out" 2>"$tmp/err"
  code=$?
  seen=$(tail -n 1 "$tmp/out")
  if [ "$code" != 0 ]; then
    result=FAILED failed=1
    if [ "$code" = 124 ]; then seen="not over within $limit s"; else seen=$(tail -n 1 "$tmp/err"); fi
    { echo "--- ${names[i]}: exit code $code"; tail -n 40 "$tmp/out" "$tmp/err"; } >&2
  fi
  row "${names[i]}" "$result" "$((SECONDS - began))" "$seen"
done
printf '%s, driver %s\n\n' "$(head -n 1 <<<"$gpus" | sed 's/ (UUID.*//')" "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)"
table
exit "$failed"
