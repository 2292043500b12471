#!/usr/bin/env bash
# Runs the staticcheck that ci/lint/tools pins, on the whole module, with and without the build tags
# of the tests that need a real world. The tool's own requirements stay out of the product's go.mod.
set -euo pipefail
cd "$(dirname "$0")/../.."
staticcheck=(go tool -modfile=ci/lint/tools/go.mod staticcheck)
"${staticcheck[@]}" "${@:-./...}"
if [ $# -eq 0 ]; then
    "${staticcheck[@]}" -tags e2e,gpu,soak ./...
fi
