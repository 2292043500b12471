#!/usr/bin/env bash
# One daemon of the testbed in DIR; NAME is nn, nn2, dn, dn2, ..., rm, rm2, nm1, nm2, ..., kdc
#   daemon.sh start NAME      daemon.sh kill NAME (as a power loss)      daemon.sh wait (until all are up)
#   daemon.sh forget NAME: a NodeManager that was killed has nothing of what it had noted
#   daemon.sh active NAME     daemon.sh standby NAME: of two NameNodes or ResourceManagers; the other one is dead or standby
#   daemon.sh cut NAME        daemon.sh join NAME: a NodeManager's network, where it has one of its own
#   daemon.sh leave NAME SECONDS, daemon.sh back NAME: such a NodeManager is decommissioned in so long, or is not any more
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
server=org.apache.hadoop.yarn.server hdfs=org.apache.hadoop.hdfs.server
format() { # NAME MAIN: the NameNode's folder, once
  [ "$1" = nn ] && [ ! -e "$DIR/nn/current/VERSION" ] || return 0
  "$JAVA_HOME/bin/java" $JAVA_OPTS -Xmx128m -cp "$DIR/conf/nn:$LIB/*" "$2" -format -nonInteractive >"$DIR/log/format.log" 2>&1 || { tail -20 "$DIR/log/format.log" >&2; exit 1; }
  [ "$NAMENODES" = 1 ] || cp -a "$DIR/nn" "$DIR/nn2"
}
files_up() { # the NameNodes that run know their DataNodes
  [ "$HDFS" = 1 ] || return 0
  local n live want
  want=$(for n in $(datanodes); do pid_of "$n" || true; done | wc -l)
  for n in $(namenodes); do
    pid_of "$n" >/dev/null || continue
    live=$(curl -fsS -m 5 "http://$(addr "$n"):$(web_of "$n")/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState" 2>/dev/null | tr -d '" ,' | sed -n 's/^NumLiveDataNodes://p')
    [ "${live:-0}" -ge "$want" ] || return 1   # it takes ten minutes for a dead one to be none
  done
}
ha() { # as `hdfs haadmin` does
  "$JAVA_HOME/bin/java" $JAVA_OPTS -Xmx128m -cp "$DIR/conf/rm:$LIB/*" org.apache.hadoop.hdfs.tools.DFSHAAdmin "$@" >>"$DIR/log/haadmin.log" 2>&1 || { tail -5 "$DIR/log/haadmin.log" >&2; exit 1; }
}
admin() { # as `yarn rmadmin` does
  bash "$here/shell.sh"
  "$JAVA_HOME/bin/java" $JAVA_OPTS -cp "$DIR/conf/rm:$(ls "$LIB"-shell-*/hadoop-yarn-client-"$HADOOP_VERSION".jar | head -1):$LIB/*" \
    org.apache.hadoop.yarn.client.cli.RMAdminCLI "$@" >>"$DIR/log/rmadmin.log" 2>&1 || { tail -5 "$DIR/log/rmadmin.log" >&2; return 1; }
}
answers() { # PORT: somebody listens there
  for ((n = 0; n < UP_LIMIT * 5; n++)); do ss -Hltn | grep -q ":$1 " && return 0; sleep 0.2; done
  say "nobody listens at port $1 after $UP_LIMIT s"; return 1
}
turn() { # active|standby NAME
  local to=-transitionToStandby
  [ "$1" = standby ] || to="-transitionToActive --forceactive"   # its word that no other one is active is ours
  case $2 in
  rm*) answers "$(port $([ "$2" = rm ] && echo 3 || echo 13))"; admin $to "$2";;
  *) ha $to "$2";;
  esac
}
case $1 in
start)
  name=$2
  pid_of "$name" >/dev/null && exit 0
  if [ "$name" = kdc ]; then
    bash "$here/kdc.sh"
    answers "$(port 5)"; exit
  fi
  bash "$here/conf.sh" "$name"
  case $name in
  nn*) main=$hdfs.namenode.NameNode heap=192m;;
  dn*) main=$hdfs.datanode.DataNode heap=192m;;
  rm*) main=$server.resourcemanager.ResourceManager heap=256m;;
  *) main=$server.nodemanager.NodeManager heap=192m;;
  esac
  mkdir -p "$DIR/$name" "$DIR"/web/webapps/{hdfs,datanode}   # the jars have no web pages, and the web servers want their folders
  format "$name" $main
  case $MANAGERS-$name in 2-rm*) which=-Dyarn.resourcemanager.ha.id=$name;; *) which=;; esac
  case $NETNS-$name in 1-nm*) within="nsenter --net=/run/netns/$PREFIX$name";; *) within=;; esac
  HADOOP_CONF_DIR=$DIR/conf/$name JAVA_HOME=$JAVA_HOME setsid $within "$JAVA_HOME/bin/java" $JAVA_OPTS -Xmx$heap -Djava.io.tmpdir="$DIR/tmp" \
    -cp "$DIR/conf/$name:$DIR/web:$LIB/*" $main $which >>"$DIR/log/$name.log" 2>&1 </dev/null 9>&- &
  keep "$name" $!;;
kill) p=$(pid_of "$2") && kill -KILL "$p"; rm -f "$DIR/pid/$2";;
active|standby) turn "$1" "$2";;
forget) rm -rf "$DIR/$2/recovery";;
cut) ip link set "$PREFIX$2" down;;
join) ip link set "$PREFIX$2" up;;
leave) addr "$2" >> "$DIR/exclude"; admin -refreshNodes -g "$3" -server;;
back) sed -i "/^$(addr "$2")\$/d" "$DIR/exclude"; admin -refreshNodes;;
wait)
  for ((n = 0; n < UP_LIMIT * 5; n++)); do
    up=$(for n in $(managers); do curl -fsS -m 5 "http://$(addr rm):$(port $([ $n = rm ] && echo 4 || echo 14))/ws/v1/cluster/metrics$([ "$WEB_LOGIN" = 0 ] || echo "?user.name=testbed")" 2>/dev/null; done | grep -o '"activeNodes":[0-9]*' | cut -d: -f2) || up=
    [ "${up:-0}" -ge "$NODES" ] && files_up && exit 0
    for f in "$DIR"/pid/*; do
      alive "$f" >/dev/null || { say "$(basename "$f") has died:"; tail -30 "$DIR/log/$(basename "$f").log" >&2; exit 1; }
    done
    sleep 0.2
  done
  say "${up:-0} of $NODES NodeManagers (or HDFS not) are up after $UP_LIMIT s"; tail -20 "$DIR"/log/*.log >&2; exit 1;;
*) sed -n '2,6s/^# //p' "$0"; exit 2;;
esac
