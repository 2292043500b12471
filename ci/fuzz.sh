#!/usr/bin/env bash
# Runs every fuzz target for a moment: ci/fuzz.sh [SECONDS each, default 3; make test gives 2]. What it finds lands in the package's testdata/fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-3} passed=0 failed=0
while read -r file; do
  pkg=./$(dirname "$file")
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(f \*testing.F).*/\1/p' "$file"); do
    if out=$(go test -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s" "$pkg" 2>&1); then
      passed=$((passed + 1)); echo "ok   $pkg $target"
    elif grep -qx ' *context deadline exceeded' <<< "$out" && ! grep -q 'Failing input\|panic' <<< "$out"; then
      # Go reports its own -fuzztime so, now and then (golang/go#75804); an input that fails is written down.
      passed=$((passed + 1)); echo "ok   $pkg $target (its time ended in a call)"
    else
      failed=$((failed + 1)); echo "FAIL $pkg $target"; printf '%s\n' "$out"
    fi
  done
done < <(git ls-files '*_test.go' | xargs grep -l '^func Fuzz')
echo "$passed fuzz targets ran, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
