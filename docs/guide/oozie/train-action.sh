#!/usr/bin/env bash
# The command of a shell action of Oozie: submits train.sh and waits for its end, with the exit code of which it ends itself.
# On standard output, for <capture-output/>, is one line: application=application_17_0001.
set -euo pipefail
export HOME=$PWD # that of a container is /home/ as a rule, where nobody may write
./maniple submit --on yarn --parsable --wait --tags nightly -N 1 -n 1 --mem 128M --am-memory 512M -- bash train.sh | sed 's/^/application=/'
