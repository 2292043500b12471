# Settings and small functions of up.sh, down.sh and node.sh. Every setting may come from the environment.
: "${ROOT:=/var/tmp/maniple-e2e}"       # parent of all testbeds (not under /tmp: the nodes have a /tmp of their own)
: "${DIR:=$ROOT/slurm-$$}"              # this one's folder: configuration, state, logs, pid files
: "${OWNER:=}"                          # the process this testbed lives for; when that is gone, the next up.sh sweeps it
: "${NODES:=4}"                         # compute nodes n1..nN
: "${GPUS:=4}" "${GPU_NODES:=2}" "${GPU_TYPE:=h100}"   # stand-ins for GPUs on the first nodes
: "${CPUS:=8}" "${MEM:=16000}"          # declared per node (more than the machine has is fine)
: "${DBD:=0}"                           # 1: slurmdbd and mariadb, for sacct
: "${SLURMD_TIMEOUT:=20}" "${KILL_WAIT:=5}" "${GRACE:=5}"
: "${CRED_EXPIRE:=10}"                  # also how long a requeued job waits (Slurm's default is 120 s)
: "${EXTRA_CONF:=}"                     # a file appended to slurm.conf
export PATH=$PATH:/usr/sbin:/sbin

say() { echo "[testbed] $*" >&2; }
# The start time of a live process: with its pid it names it for ever.
birth() { local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 0; set -- ${s##*) }; [ "$1" = Z ] || echo "${20}"; }
keep() { echo "$2 $(birth "$2")" > "$DIR/pid/$1"; }                        # keep NAME PID
alive() { # alive FILE: the pid in it, when it still names the same process
  local p b; read -r p b 2>/dev/null < "$1" || return 1
  [ -n "$b" ] && [ "$(birth "$p")" = "$b" ] && echo "$p"
}
pid_of() { alive "$DIR/pid/$1"; }
stop() { # stop NAME [SIGNAL]: KILL after 10 s
  local p n; p=$(pid_of "$1") || { rm -f "$DIR/pid/$1"; return 0; }
  kill -"${2:-TERM}" "$p" 2>/dev/null
  for ((n = 0; n < 200; n++)); do pid_of "$1" >/dev/null || break; sleep 0.05; done
  p=$(pid_of "$1") && kill -KILL "$p"
  rm -f "$DIR/pid/$1"
}
# init_of n1: the first process of that node, as seen from here
init_of() { local p; p=$(pid_of "node-$1") && cut -d' ' -f1 "/proc/$p/task/$p/children" 2>/dev/null; }
# What up.sh chose for this testbed: SLOT, NET, BRIDGE, PREFIX, PORT.
slot() { SLOT=$1 NET=10.77.$1 BRIDGE=mpb$1 PREFIX=mp$1 PORT=$((20000 + 20 * $1)); }
[ -s "$DIR/slot" ] && slot "$(cat "$DIR/slot")"
return 0
