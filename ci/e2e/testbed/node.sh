#!/usr/bin/env bash
# One node of the testbed in DIR.
#   node.sh boot n1             start it and its slurmd      node.sh crash n1     power loss: all of its processes die
#   node.sh slurmd-stop n1 [SIG]  the daemon only            node.sh slurmd-start n1
#   node.sh unplug n1           cut it off the network       node.sh plug n1
#   node.sh exec n1 CMD...      run something there as root
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
[ $# -ge 2 ] || { sed -n '2,6s/^# //p' "$0"; exit 2; }
cmd=$1 n=$2 i=${2#n}; shift 2
export SLURM_CONF=$DIR/etc/slurm.conf
inside() { local p; p=$(init_of "$n"); [ -n "$p" ] || { say "$n is down"; return 1; }; nsenter -t "$p" -m -u -n -p -r -w -- "$@"; }
case $cmd in
boot)
  if ! pid_of "node-$n" >/dev/null; then
    rm -f "$DIR/spool/$n.pid"
    gpus=0; [ -e "$DIR/gpus" ] && { read -r count nodes < "$DIR/gpus"; [ "$i" -le "$nodes" ] && gpus=$count; }
    setsid nsenter --net="/run/netns/$PREFIX$n" unshare --mount --uts --pid --fork --kill-child --mount-proc \
      bash "$here/node-init.sh" "$n" "$DIR" "$gpus" >"$DIR/log/node-$n.out" 2>&1 </dev/null &
    keep "node-$n" $!
  fi;;
crash) p=$(pid_of "node-$n") && kill -KILL "$p"; rm -f "$DIR/pid/node-$n";;
exec) inside "$@";;
slurmd-stop) inside bash -c 'kill -'"${1:-TERM}"' "$(cat "$1")"' - "$DIR/spool/$n.pid";;
slurmd-start) inside slurmd -f "$SLURM_CONF";;
unplug) ip link set "$PREFIX"v"$i" down;;
plug) ip link set "$PREFIX"v"$i" up;;
*) say "no command $cmd"; exit 2;;
esac
