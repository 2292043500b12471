#!/usr/bin/env bash
# Stops what up.sh started in DIR (each pid is checked against its start time) and removes the folder, the
# network and the user. KEEP=1 leaves the folder, for its logs.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
[ -d "$DIR/pid" ] || { [ -e "$DIR/claim" ] && rm -rf --one-file-system "$DIR"; exit 0; }
shopt -s nullglob
stop slurmctld KILL                                                    # nothing of its state is wanted again
for f in "$DIR"/pid/node-*; do stop "$(basename "$f")" KILL; done      # takes every process of the node along
stop slurmdbd; stop mariadbd KILL; stop munged
[ -n "${SLOT:-}" ] && {
  for ((i = 1; i <= 64; i++)); do [ -e "/run/netns/${PREFIX}n$i" ] || continue; ip netns del "${PREFIX}n$i"; done
  ip link del "$BRIDGE" 2>/dev/null
}
user=$(cat "$DIR/user" 2>/dev/null) && [ -n "$user" ] && {
  for ((n = 0; n < 40; n++)); do userdel -f "$user" 2>/dev/null; id "$user" >/dev/null 2>&1 || break; sleep 0.1; done
}
[ "${KEEP:-0}" = 1 ] || rm -rf --one-file-system "$DIR"
exit 0
