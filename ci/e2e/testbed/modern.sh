#!/usr/bin/env bash
# Runs the tests of ci/e2e/slurm on a newer Slurm than this machine's: Debian 13's 24.11, in a tree of that
# system with namespaces of its own, in which everything ends with this command.
#   modern.sh [TEST FLAG...]     as: modern.sh -test.run TestRequeue        prints what `go test -json` prints
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"
debian_tree
cd "$top"
CGO_ENABLED=0 go build -trimpath -o "$bin/maniple" ./launcher/cmd/maniple
CGO_ENABLED=0 go test -c -tags "${TAGS:-e2e}" -o "$bin/slurm.test" ./ci/e2e/slurm
debian_run "$top/ci/e2e/slurm" "$bin/slurm.test" -test.v=test2json -test.timeout 1h "$@" |
  go tool test2json -t -p "github.com/maniple-hpc/maniple/ci/e2e/slurm@$RELEASE"
