#!/usr/bin/env bash
# Stops what up.sh started in DIR (each pid is checked against its start time), ends containers that were left,
# and removes the folder. KEEP=1 leaves the folder, for its logs.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
[ -d "$DIR/pid" ] || exit 0
shopt -s nullglob
for f in "$DIR"/pid/*; do stop "$(basename "$f")" KILL; done   # an orderly stop of a NodeManager takes 17 s, and nothing of it is wanted
# Containers are sessions of their own; their leaders' pids are in files, and their environment names the folder.
for f in $(find "$DIR"/nm*/local/nmPrivate -name 'container_*.pid' 2>/dev/null); do
  pid=$(cat "$f" 2>/dev/null); [ -n "$pid" ] || continue
  tr '\0' '\n' 2>/dev/null < "/proc/$pid/environ" | grep -q "^LOCAL_DIRS=$DIR/nm" && kill -KILL -- "-$pid" 2>/dev/null
done
if [ -e "$DIR/netns" ]; then
  for ns in /run/netns/"$PREFIX"nm*; do # with all that is in it: a NodeManager that was killed knew of more
    ns=$(basename "$ns"); ip netns pids "$ns" | xargs -r kill -KILL; ip netns del "$ns"; ip link del "$ns" 2>/dev/null
  done
  ip link del "$BRIDGE" 2>/dev/null
fi
[ "${KEEP:-0}" = 1 ] || rm -rf --one-file-system "$DIR"
exit 0
