#!/usr/bin/env bash
# A real YARN on loopback ports of this machine: a ResourceManager with recovery, or two, NODES x NodeManager, and HDFS
# of a NameNode and a DataNode, or of more of them. Several
# testbeds run side by side. KERBEROS=1 puts a KDC beside them. Needs Java 17 and, the first time, Maven, which fetches about 90 MB of jars.
#   DIR=/var/tmp/maniple-e2e/hadoop/mine ./up.sh      then: . $DIR/env      (settings: env.sh)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
t0=$(date +%s%N)

# --- jars -----------------------------------------------------------------------------------------------
mkdir -p "$(dirname "$LIB")" "$ROOT/hadoop"
if [ ! -e "$LIB/.complete" ]; then
  exec 8>"$LIB.lock"; flock 8
  if [ ! -e "$LIB/.complete" ]; then
    say "fetching Hadoop $HADOOP_VERSION into $LIB"
    rm -rf "$LIB" "$LIB.part"
    mvn -q -B -ntp -f "$here/pom.xml" -Dhadoop.version="$HADOOP_VERSION" dependency:copy-dependencies -DincludeScope=runtime \
      -DoutputDirectory="$LIB.part" >"$LIB.log" 2>&1 || { tail -20 "$LIB.log" >&2; exit 69; }
    mv "$LIB.part" "$LIB"; touch "$LIB/.complete"
  fi
  exec 8>&-
fi

# --- sweep what is dead, take free ports ----------------------------------------------------------------
exec 9>"$ROOT/hadoop/.lock"; flock 9
for d in "$ROOT"/hadoop/*/; do
  d=${d%/}; [ -e "$d/owner" ] && ! alive "$d/owner" >/dev/null && [ "$d" != "$DIR" ] || continue
  say "sweeping $d, whose owner is gone"; DIR=$d KEEP=0 bash "$here/down.sh" 9>&-
done
mkdir -p "$DIR"/{pid,log,conf,state,tmp}; chmod 755 "$DIR"; chmod 700 "$DIR/pid"
[ -n "$OWNER" ] && echo "$OWNER $(birth "$OWNER")" > "$DIR/owner"
if [ ! -s "$DIR/port" ]; then
  taken=" $({ cat "$ROOT"/hadoop/*/port 2>/dev/null || true; } | tr '\n' ' ') "
  for ((base = 27000; base < 28000; base += PORTS)); do
    [[ $taken == *" $base "* ]] && continue
    busy=$(ss -Hltn | awk -v b=$base -v n=$PORTS '{k = split($4, a, ":"); if (a[k] >= b && a[k] < b + n) print}')
    [ -n "$busy" ] || { echo $base > "$DIR/port"; break; }
  done
  [ -s "$DIR/port" ] || { say "no free ports"; exit 75; }
fi
exec 9>&-

# --- namespaces -----------------------------------------------------------------------------------------
if [ "$NETNS" = 1 ]; then
  touch "$DIR/netns"; . "$here/env.sh"
  ip link show "$BRIDGE" >/dev/null 2>&1 || ip link add "$BRIDGE" type bridge
  ip addr replace "$(addr rm)/24" dev "$BRIDGE"; ip link set "$BRIDGE" up
  { echo "127.0.0.1 localhost"; echo "$(addr rm) $(hostname)"; } > "$DIR/hosts"
  for ((i = 1; i <= NODES; i++)); do
    ns=${PREFIX}nm$i; echo "$(addr "nm$i") $(addr "nm$i")" >> "$DIR/hosts"   # there is no other name for it
    [ -e "/run/netns/$ns" ] && continue
    ip netns add "$ns"; ip link add "$ns" type veth peer name eth0 netns "$ns"; ip link set "$ns" master "$BRIDGE" up
    ip -n "$ns" link set lo up; ip -n "$ns" link set eth0 up; ip -n "$ns" addr add "$(addr "nm$i")/24" dev eth0
  done
fi

# --- daemons --------------------------------------------------------------------------------------------
[ "$KERBEROS" = 0 ] || bash "$here/kdc.sh"
if [ "$HDFS" = 1 ]; then for d in $(namenodes) $(datanodes); do bash "$here/daemon.sh" start $d; done; fi
for d in $(managers); do bash "$here/daemon.sh" start $d; done
for ((i = 1; i <= NODES; i++)); do bash "$here/daemon.sh" start "nm$i"; done
[ "$MANAGERS" = 1 ] || bash "$here/daemon.sh" active rm
bash "$here/daemon.sh" wait
[ "$NAMENODES$HDFS" != 21 ] || bash "$here/daemon.sh" active nn
cat > "$DIR/env" <<EOT
export HADOOP_CONF_DIR=$DIR/conf/rm
export MANIPLE_TESTBED_DIR=$DIR
EOT
say "YARN $HADOOP_VERSION is up after $((($(date +%s%N) - t0) / 1000000)) ms; . $DIR/env"
