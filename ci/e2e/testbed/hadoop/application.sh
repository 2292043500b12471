#!/usr/bin/env bash
# Hadoop's own command, `yarn application`, on the testbed in DIR:
#   DIR=/var/tmp/maniple-e2e/hadoop/mine ./application.sh -list -appTypes maniple
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/shell.sh" # fetches the classes
. "$here/env.sh"
exec java -cp "$DIR/conf/rm:$LIB-shell-${SHELL_VERSION:-3.3.5}/*:$LIB/*" org.apache.hadoop.yarn.client.cli.ApplicationCLI application "$@"
