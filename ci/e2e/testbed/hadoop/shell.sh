#!/usr/bin/env bash
# Hadoop's own distributed shell on the testbed in DIR: runs COMMAND in N containers, and waits for their end.
#   DIR=/var/tmp/maniple-e2e/hadoop/mine ./shell.sh N COMMAND
# Without arguments it only fetches what it needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
# Not every repository has it for each version of Hadoop. This one runs with the libraries of 3.4.1, that of 3.4.2 wants newer ones.
: "${SHELL_VERSION:=3.3.5}"
jars=$LIB-shell-$SHELL_VERSION

if [ ! -e "$jars" ]; then
  rm -rf "$jars.part"
  for a in "hadoop-yarn-applications-distributedshell:$SHELL_VERSION" "hadoop-yarn-client:$HADOOP_VERSION"; do
    mvn -q -B -ntp org.apache.maven.plugins:maven-dependency-plugin:copy -Dartifact="org.apache.hadoop:$a" -DoutputDirectory="$jars.part" \
      >"$jars.log" 2>&1 || { tail -20 "$jars.log" >&2; exit 69; }
  done
  mv "$jars.part" "$jars"
fi
[ $# -gt 0 ] || exit 0

# Its master finds YARN by a folder of configuration on its classpath, as `yarn.application.classpath` names one at a site.
conf=$DIR/conf/shell
if [ ! -e "$conf" ]; then
  mkdir "$conf"
  cp "$DIR"/conf/rm/* "$conf"
  sed -i "s#</configuration>#<property><name>yarn.application.classpath</name><value>$conf,$jars/*,$LIB/*</value></property>&#" "$conf/yarn-site.xml"
fi
exec java -cp "$conf:$jars/*:$LIB/*" org.apache.hadoop.yarn.applications.distributedshell.Client \
  --jar "$jars/hadoop-yarn-applications-distributedshell-$SHELL_VERSION.jar" \
  --num_containers "$1" --container_memory 128 --master_memory 512 --shell_command "$2"
