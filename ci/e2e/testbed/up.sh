#!/usr/bin/env bash
# A real Slurm on this one machine: munged, slurmctld and NODES x slurmd, each node a network, host name,
# mount and process namespace of its own with its own /tmp and /dev/shm; the machine itself is the login
# node. Several testbeds run side by side: each takes a free slot, which gives it a subnet, a bridge, a
# range of ports and a user. Needs root; installs Debian's packages where they are missing.
#   DIR=/var/tmp/maniple-e2e/mine ./up.sh      then: . $DIR/env; srun -N4 hostname       (settings: env.sh)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
t0=$(date +%s%N); ms() { echo $(( ($(date +%s%N) - t0) / 1000000 )); }
[ "$(id -u)" = 0 ] || { say "needs root"; exit 77; }
case $DIR in /tmp|/tmp/*) say "DIR under /tmp would be hidden from the nodes"; exit 64;; esac

# --- packages -------------------------------------------------------------------------------------------
need="slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge iproute2"
[ "$DBD" = 1 ] && need+=" slurmdbd slurm-wlm-mysql-plugin mariadb-server"
mkdir -p "$ROOT"; chmod 755 "$ROOT"
if ! dpkg -s $need >/dev/null 2>&1; then
  exec 8>"$ROOT/.apt"; flock 8
  say "installing: $need"
  # No package may start its daemon: ours have their own configuration.
  made=; [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; made=1; }
  ok=1; (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $need) > "$ROOT/apt.log" 2>&1 || ok=0
  [ -n "$made" ] && rm -f /usr/sbin/policy-rc.d
  [ $ok = 1 ] || { tail -5 "$ROOT/apt.log" >&2; say "the packages could not be installed"; exit 69; }
  exec 8>&-
fi

# --- sweep what is dead, take a free slot ---------------------------------------------------------------
exec 9>"$ROOT/.lock"; flock 9
for d in "$ROOT"/*/; do
  d=${d%/}; [ -e "$d/owner" ] && ! alive "$d/owner" >/dev/null && [ "$d" != "$DIR" ] || continue
  say "sweeping $d, whose owner is gone"; DIR=$d KEEP=0 bash "$here/down.sh" 9>&-
done
mkdir -p "$DIR"/{pid,log,etc,state,spool,shared,dev,munge}; touch "$DIR/claim"
[ -n "$OWNER" ] && echo "$OWNER $(birth "$OWNER")" > "$DIR/owner"
if [ ! -s "$DIR/slot" ]; then
  for ((s = 1; s < 250; s++)); do
    slot $s
    ip -4 -o addr | grep -q " 10\.77\.$s\." && continue
    ip link add "$BRIDGE" type bridge 2>/dev/null || continue
    echo "$s" > "$DIR/slot"; break
  done
  [ -s "$DIR/slot" ] || { say "no free slot"; exit 75; }
fi
ip link show "$BRIDGE" >/dev/null 2>&1 || ip link add "$BRIDGE" type bridge
user=mpl$SLOT; echo "$user" > "$DIR/user"
id "$user" >/dev/null 2>&1 || useradd -M -d "$DIR/home" -s /bin/bash "$user"
exec 9>&-
mkdir -p "$DIR/home"; chown "$user:" "$DIR/home"; chmod 700 "$DIR/home"
chmod 755 "$DIR" "$DIR"/{log,etc,munge,spool}; chmod 700 "$DIR/pid"; chmod 1777 "$DIR/shared"
chown slurm: "$DIR/state" "$DIR/log"

# --- munge ----------------------------------------------------------------------------------------------
if ! pid_of munged >/dev/null; then
  [ -s "$DIR/munge/key" ] || (umask 077; head -c 128 /dev/urandom > "$DIR/munge/key")
  rm -f "$DIR/munge/socket" "$DIR/munge/socket.lock"
  setsid munged --foreground --socket="$DIR/munge/socket" --key-file="$DIR/munge/key" --seed-file="$DIR/munge/seed" \
    --pid-file="$DIR/munge/pid" --log-file="$DIR/munge/log" --num-threads=2 >"$DIR/log/munged.log" 2>&1 </dev/null &
  keep munged $!
fi

# --- configuration --------------------------------------------------------------------------------------
self=$(hostname -s)
{
  cat <<EOT
ClusterName=testbed
SlurmctldHost=$self($NET.1)
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/socket,cred_expire=$CRED_EXPIRE
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/state/slurmctld.pid
SlurmdPidFile=$DIR/spool/%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,batch_sched_delay=0,sched_min_interval=50000
PriorityType=priority/multifactor
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PrologFlags=Alloc
JobRequeue=1
MailProg=/bin/true
ReturnToService=2
SlurmdTimeout=$SLURMD_TIMEOUT
SlurmctldTimeout=30
KillWait=$KILL_WAIT
InactiveLimit=0
MinJobAge=600
MessageTimeout=10
UnkillableStepTimeout=15
TreeWidth=50
EOT
  [ "$DBD" = 1 ] && printf 'AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\nAccountingStoragePort=%s\nAccountingStoragePass=%s\nAccountingStorageTRES=gres/gpu\nAccountingStoreFlags=job_comment,job_script\n' "$((PORT + 2))" "$DIR/munge/socket"
  for ((i = 1; i <= NODES; i++)); do
    g=; f=cpu; [ "$i" -le "$GPU_NODES" ] && [ "$GPUS" -gt 0 ] && g=" Gres=gpu:$GPU_TYPE:$GPUS" f=gpu
    echo "NodeName=n$i NodeAddr=$NET.$((10 + i)) CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEM Feature=$f$g State=UNKNOWN"
  done
  echo "PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=$GRACE State=UP"
  echo "PartitionName=high Nodes=ALL MaxTime=INFINITE DefaultTime=60 PriorityTier=10 PreemptMode=OFF State=UP"
  echo "PartitionName=short Nodes=n[1-2] MaxTime=10 DefaultTime=1 PriorityTier=1 PreemptMode=OFF State=UP"
  [ -n "$EXTRA_CONF" ] && cat "$EXTRA_CONF"
} > "$DIR/etc/slurm.conf" || true
{
  echo "AutoDetect=off"
  if [ "$GPUS" -gt 0 ]; then
    echo "NodeName=n[1-$GPU_NODES] Name=gpu Type=$GPU_TYPE File=/dev/nvidia[0-$((GPUS - 1))]"
  fi
} > "$DIR/etc/gres.conf"
echo "$GPUS $GPU_NODES" > "$DIR/gpus"
version=$(slurmctld -V | sed 's/.* //')
if [ "${version%%.*}" -ge 23 ]; then echo CgroupPlugin=disabled; else printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n'; fi > "$DIR/etc/cgroup.conf"
: > "$DIR/etc/plugstack.conf"
{ echo "127.0.0.1 localhost"; echo "$NET.1 $self"; for ((i = 1; i <= NODES; i++)); do echo "$NET.$((10 + i)) n$i"; done; } > "$DIR/etc/hosts"
export SLURM_CONF=$DIR/etc/slurm.conf

# --- accounting -----------------------------------------------------------------------------------------
if [ "$DBD" = 1 ]; then
  sql="mariadb --no-defaults -S $DIR/sql/s -uroot"
  if ! pid_of mariadbd >/dev/null; then
    if [ ! -e "$DIR/sql/.complete" ]; then
      rm -rf "$DIR/sql"; mkdir -p "$DIR/sql"; chown mysql: "$DIR/sql"
      mariadb-install-db --no-defaults --user=mysql --datadir="$DIR/sql" --skip-test-db --auth-root-authentication-method=normal >"$DIR/log/sql-install.log" 2>&1
      touch "$DIR/sql/.complete"
    fi
    setsid mariadbd --no-defaults --user=mysql --datadir="$DIR/sql" --socket="$DIR/sql/s" --pid-file="$DIR/sql/pid" --bind-address=127.0.0.1 --port=$((PORT + 3)) \
      --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=2 --innodb-lock-wait-timeout=900 --skip-log-bin >"$DIR/log/mariadbd.log" 2>&1 </dev/null &
    keep mariadbd $!
  fi
  for ((n = 0; n < 300; n++)); do $sql -e 'select 1' >/dev/null 2>&1 && break; sleep 0.1; done
  $sql -e "create database if not exists slurm_acct_db; create user if not exists slurm@'%' identified by 'testbed'; create user if not exists slurm@localhost identified by 'testbed'; grant all on slurm_acct_db.* to slurm@'%'; grant all on slurm_acct_db.* to slurm@localhost;"
  if ! pid_of slurmdbd >/dev/null; then
    cat > "$DIR/etc/slurmdbd.conf" <<EOT
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PORT + 2))
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 3))
StorageUser=slurm
StoragePass=testbed
StorageLoc=slurm_acct_db
PidFile=$DIR/state/slurmdbd.pid
LogFile=$DIR/log/slurmdbd.log
DebugLevel=info
EOT
    chown slurm: "$DIR/etc/slurmdbd.conf"; chmod 600 "$DIR/etc/slurmdbd.conf"
    setsid slurmdbd -D >"$DIR/log/slurmdbd.out" 2>&1 </dev/null &
    keep slurmdbd $!
    for ((n = 0; n < 100; n++)); do timeout 5 sacctmgr -n list cluster >/dev/null 2>&1 && break; pid_of slurmdbd >/dev/null || { tail "$DIR/log/slurmdbd.out" >&2; exit 1; }; sleep 0.1; done
    sacctmgr -n list cluster format=cluster | grep -q testbed || sacctmgr -iQ add cluster testbed >/dev/null
    sacctmgr -n list account format=account | grep -q testbed || sacctmgr -iQ add account testbed >/dev/null
    sacctmgr -n list user "$user" format=user | grep -q . || sacctmgr -iQ add user "$user" account=testbed >/dev/null
  fi
fi

# --- network --------------------------------------------------------------------------------------------
ip -4 -o addr show dev "$BRIDGE" | grep -q . || ip addr add "$NET.1/24" dev "$BRIDGE"
ip link set "$BRIDGE" up
for ((i = 1; i <= NODES; i++)); do
  ns=${PREFIX}n$i
  [ -e "/run/netns/$ns" ] || ip netns add "$ns"
  if ! ip -n "$ns" link show eth0 >/dev/null 2>&1; then
    ip link add "${PREFIX}v$i" type veth peer name eth0 netns "$ns"
    ip link set "${PREFIX}v$i" master "$BRIDGE" up
    ip -n "$ns" addr add "$NET.$((10 + i))/24" dev eth0
    ip -n "$ns" link set lo up; ip -n "$ns" link set eth0 up; ip -n "$ns" route add default via "$NET.1"
  fi
done

# --- controller and nodes -------------------------------------------------------------------------------
if ! pid_of slurmctld >/dev/null; then
  setsid slurmctld -D -f "$SLURM_CONF" >"$DIR/log/slurmctld.out" 2>&1 </dev/null &
  keep slurmctld $!
fi
for ((n = 0; n < 100; n++)); do timeout 1 scontrol ping 2>/dev/null | grep -q 'is UP' && break; pid_of slurmctld >/dev/null || { tail "$DIR/log/slurmctld.out" >&2; exit 1; }; sleep 0.1; done
for ((i = 1; i <= NODES; i++)); do DIR=$DIR "$here/node.sh" boot n$i; done
up() { timeout 2 sinfo -h -N -o '%N %t' -p low 2>/dev/null | grep -Ec ' (idle|mix|alloc)$' || true; }
for ((n = 0; n < 300 && SECONDS < 60; n++)); do [ "$(up)" -ge "$NODES" ] && break; sleep 0.1; done
[ "$(up)" -ge "$NODES" ] || { say "not every node came up:"; sinfo -N >&2; exit 1; }
cat > "$DIR/env" <<EOT
export SLURM_CONF=$SLURM_CONF
export MANIPLE_TESTBED_DIR=$DIR
export MANIPLE_TESTBED_SHARED=$DIR/shared
export MANIPLE_TESTBED_USER=$user
export MANIPLE_TESTBED_HOME=$DIR/home
export MANIPLE_TESTBED_NODES=$NODES
export MANIPLE_TESTBED_NET=$NET
export MANIPLE_TESTBED_VERSION=$version
EOT
say "Slurm $version, $NODES nodes, user $user, ready in $(ms) ms: . $DIR/env"
