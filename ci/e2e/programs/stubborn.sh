#!/bin/sh
# A program whose grandchild has left its session and ignores every gentle signal.
# Usage: stubborn.sh FOLDER [COMMAND...]   leaves the grandchild's pid there, then runs COMMAND (default: sleeps).
id=${RANK:-driver}
dir=$1
shift
setsid sh -c 'trap "" TERM INT HUP USR1; echo $$ > "$0"; while :; do sleep 1; done' "$dir/grandchild.$id" >/dev/null 2>&1 </dev/null &
while [ ! -s "$dir/grandchild.$id" ]; do sleep 0.05; done
: > "$dir/ready.$id"
[ $# -gt 0 ] || set -- sleep 1000
"$@"
