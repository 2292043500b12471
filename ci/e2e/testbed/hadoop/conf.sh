#!/usr/bin/env bash
# Writes the configuration of daemon NAME (rm, rm2, nm1, ...) of the testbed in DIR into DIR/conf/NAME:  conf.sh NAME
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
name=$1 to=$DIR/conf/$1 q=yarn.scheduler.capacity secure=simple at=$(addr rm) mine=$(addr "$1") nmport=0
fs=hdfs://$at:$(port 6)
[ "$NAMENODES" = 1 ] || fs=hdfs://ha
[ "$HDFS" = 1 ] || fs=file:///
[ ! -e "$DIR/kdc/keytab" ] || secure=kerberos
case " $NM_RECOVERY " in *" $name "*) nmport=8041;; esac   # which has to stay
mkdir -p "$to"; touch "$DIR/exclude"
site() { # KEY VALUE lines of stdin as a file
  { echo '<?xml version="1.0"?>'; echo '<configuration>'
    while read -r key value; do [ -z "$key" ] || echo "<property><name>$key</name><value>$value</value></property>"; done
    echo '</configuration>'; } > "$to/$1"
}
manager() { # SUFFIX FIRST: where a ResourceManager is
  local k=yarn.resourcemanager
  printf "$k.%s$1 $at:%s\n" address "$(port $2)" scheduler.address "$(port $(($2 + 1)))" resource-tracker.address "$(port $(($2 + 2)))" \
    admin.address "$(port $(($2 + 3)))" webapp.address "$(port $(($2 + 4)))"
}
site core-site.xml <<S
fs.defaultFS $fs
hadoop.tmp.dir $DIR/tmp/$name
hadoop.rpc.protection $PROTECTION
hadoop.security.authentication $secure
$([ $secure = simple ] || echo 'hadoop.security.auth_to_local RULE:[1:$1@$0](bob@.*)s/.*/robert/ DEFAULT')
io.native.lib.available false
$(case $DATANODES-$name in 1-*) ;; *-dn*) echo ipc.client.connect.max.retries 1;; esac)
$([ "$WEB_LOGIN-$name" != 1-rm ] || cat <<W
hadoop.http.filter.initializers org.apache.hadoop.security.AuthenticationFilterInitializer
hadoop.http.authentication.type simple
hadoop.http.authentication.simple.anonymous.allowed false
W
)
S
site hdfs-site.xml <<S
$(if [ "$NAMENODES" = 1 ]; then echo "dfs.namenode.rpc-address $at:$(port 6)
dfs.namenode.http-address $at:$(port 7)"
else echo "dfs.nameservices ha
dfs.ha.namenodes.ha nn,nn2
dfs.namenode.rpc-address.ha.nn $at:$(port 6)
dfs.namenode.http-address.ha.nn $at:$(port 7)
dfs.namenode.rpc-address.ha.nn2 $at:$(port 8)
dfs.namenode.http-address.ha.nn2 $at:$(port 9)
dfs.namenode.shared.edits.dir file://$DIR/edits
dfs.ha.tail-edits.period 1s
dfs.client.failover.proxy.provider.ha org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
case $name in nn*) echo "dfs.ha.namenode.id $name";; esac; fi)
dfs.namenode.name.dir file://$DIR/$(case $name in nn*) echo "$name";; *) echo nn;; esac)
dfs.namenode.safemode.extension 0
dfs.permissions.superusergroup $(id -gn)
dfs.replication $REPLICATION
$([ "$DATANODES" = 1 ] || echo dfs.heartbeat.interval 1)
dfs.datanode.data.dir file://$DIR/$(case $name in dn*) echo "$name";; *) echo dn;; esac)
dfs.datanode.address $at:0
dfs.datanode.http.address $at:0
dfs.datanode.ipc.address $at:0
dfs.datanode.hostname $at
dfs.datanode.du.reserved 0
dfs.namenode.datanode.registration.ip-hostname-check false
$([ $secure = simple ] || cat <<K
dfs.namenode.kerberos.principal nn/localhost@TEST.LOCAL
dfs.namenode.keytab.file $DIR/kdc/keytab
dfs.datanode.kerberos.principal dn/$(addr dn)@TEST.LOCAL
dfs.datanode.keytab.file $DIR/kdc/keytab
dfs.web.authentication.kerberos.principal HTTP/localhost@TEST.LOCAL
dfs.web.authentication.kerberos.keytab $DIR/kdc/keytab
dfs.block.access.token.enable true
dfs.http.policy HTTP_ONLY
ignore.secure.ports.for.testing true
dfs.namenode.delegation.token.renew-interval $TOKEN_RENEW_MS
dfs.namenode.delegation.token.max-lifetime $TOKEN_MAX_MS
dfs.data.transfer.protection $DATA_PROTECTION
dfs.encrypt.data.transfer $DATA_ENCRYPTION
dfs.encrypt.data.transfer.cipher.suites $DATA_CIPHERS
K
)
S
site yarn-site.xml <<S
$(if [ "$MANAGERS" = 1 ]; then echo "yarn.resourcemanager.hostname $at"; manager "" 0
else echo "yarn.resourcemanager.ha.enabled true
yarn.resourcemanager.ha.automatic-failover.enabled false
yarn.resourcemanager.ha.rm-ids rm,rm2
yarn.resourcemanager.cluster-id $(basename "$DIR")
yarn.resourcemanager.connect.retry-interval.ms 500"; manager .rm 0; manager .rm2 10; fi)
yarn.resourcemanager.bind-host $at
yarn.resourcemanager.am.max-attempts $AM_ATTEMPTS
yarn.resourcemanager.nodes.exclude-path $DIR/exclude
yarn.resourcemanager.nodemanagers.heartbeat-interval-ms 100
yarn.resourcemanager.recovery.enabled true
yarn.resourcemanager.store.class org.apache.hadoop.yarn.server.resourcemanager.recovery.FileSystemRMStateStore
yarn.resourcemanager.fs.state-store.uri file://$DIR/state
yarn.resourcemanager.work-preserving-recovery.scheduling-wait-ms 1000
yarn.resourcemanager.am-rm-tokens.master-key-rolling-interval-secs $AMRM_ROLL
yarn.am.liveness-monitor.expiry-interval-ms $AM_EXPIRY_MS
yarn.nm.liveness-monitor.expiry-interval-ms $NM_EXPIRY_MS
yarn.scheduler.minimum-allocation-mb $LEAST_MB
yarn.scheduler.maximum-allocation-mb $NM_MB
yarn.scheduler.maximum-allocation-vcores $NM_VCORES
yarn.nodemanager.bind-host $mine
yarn.nodemanager.hostname $mine
yarn.nodemanager.address $mine:$nmport
yarn.nodemanager.localizer.address $mine:0
yarn.nodemanager.webapp.address $mine:0
yarn.nodemanager.local-dirs $DIR/$name/local
yarn.nodemanager.log-dirs $DIR/$name/logs
yarn.nodemanager.resource.memory-mb $NM_MB
yarn.nodemanager.resource.cpu-vcores $NM_VCORES
yarn.nodemanager.vmem-check-enabled $VMEM_CHECK
yarn.nodemanager.resource.memory.enforced false
yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage 99.9
yarn.nodemanager.container-executor.class org.apache.hadoop.yarn.server.nodemanager.DefaultContainerExecutor
yarn.nodemanager.delete.debug-delay-sec 600
yarn.timeline-service.enabled false
$([ $nmport = 0 ] || printf 'yarn.nodemanager.recovery.%s\n' 'enabled true' 'supervised true' "dir $DIR/$name/recovery")
yarn.log-aggregation-enable $LOG_AGGREGATION
yarn.log-aggregation.file-formats $LOG_FORMATS
yarn.nodemanager.log-aggregation.compression-type $LOG_COMPRESSION
yarn.log-aggregation.file-controller.IFile.class org.apache.hadoop.yarn.logaggregation.filecontroller.ifile.LogAggregationIndexedFileController
$([ $secure = simple ] || cat <<K
yarn.resourcemanager.principal rm/localhost@TEST.LOCAL
yarn.resourcemanager.keytab $DIR/kdc/keytab
yarn.nodemanager.principal nm/$mine@TEST.LOCAL
yarn.nodemanager.keytab $DIR/kdc/keytab
yarn.resourcemanager.webapp.delegation-token-auth-filter.enabled false
yarn.resourcemanager.delegation.token.renew-interval $TOKEN_RENEW_MS
yarn.resourcemanager.delegation.token.max-lifetime $TOKEN_MAX_MS
K
)
S
# Counted by the scheduler, and nothing more: the plugin that isolates GPUs stays off. The default calculator refuses to start with a third kind.
gpus() { [ "$CALCULATOR" = Default ] || echo "$@"; }
gpus yarn.resource-types yarn.io/gpu | site resource-types.xml
gpus yarn.nodemanager.resource-type.yarn.io/gpu "$NM_GPUS" | site node-resources.xml
site capacity-scheduler.xml <<S
$q.root.queues default,batch
$q.root.default.capacity 60
$q.root.default.maximum-capacity 100
$q.root.default.user-limit-factor 10
$q.root.batch.capacity 40
$q.root.batch.maximum-capacity 100
$q.root.batch.user-limit-factor 10
$q.root.batch.ordering-policy fair
$q.maximum-am-resource-percent 0.9
$q.resource-calculator org.apache.hadoop.yarn.util.resource.${CALCULATOR}ResourceCalculator
$q.node-locality-delay 0
S
cat > "$to/log4j.properties" <<'S'
log4j.rootLogger=INFO,out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n
S
