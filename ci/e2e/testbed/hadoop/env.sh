# Settings and small functions of up.sh, down.sh and daemon.sh. Every setting may come from the environment.
: "${ROOT:=/var/tmp/maniple-e2e}"
: "${HADOOP_VERSION:=3.4.1}"
: "${DIR:=$ROOT/hadoop/$$}"             # this one's folder: configuration, state, logs, pid files
: "${OWNER:=}"                          # the process this testbed lives for; when that is gone, the next up.sh sweeps it
: "${LIB:=${XDG_CACHE_HOME:-$HOME/.cache}/maniple/hadoop-hdfs-$HADOOP_VERSION}"   # jars
: "${NODES:=2}"                         # NodeManagers
: "${NM_MB:=4096}" "${NM_VCORES:=8}" "${NM_GPUS:=4}"   # declared per NodeManager (more than the machine has is fine)
: "${CALCULATOR:=Dominant}"              # what is counted; Default, as Hadoop has it: memory alone, and there are no GPUs
: "${LEAST_MB:=64}"                     # of which each container's memory is a multiple; Hadoop has 1024
: "${VMEM_CHECK:=false}"                # true, as Hadoop has it: address space is counted, and containers have to be larger for it. Memory is counted in any case: conf.sh
                                        # has memory.enforced off, as Hadoop 3.3 and later count neither with it on, and leave memory to cgroups, whether there are any or not
: "${NAMENODES:=1}"                     # 2: nn and nn2 behind hdfs://ha, with edits in a folder that both see; nn is active first, and then whichever daemon.sh says
: "${MANAGERS:=1}"                       # 2: ResourceManagers rm and rm2, of which rm is active first, and then whichever daemon.sh says
: "${DATANODES:=1}" "${REPLICATION:=1}" # dn, dn2, ..., and how many of them have each block
: "${HDFS:=1}"                          # 0: without NameNode and DataNode; files are then on this machine
: "${PROTECTION:=authentication,integrity,privacy}"    # hadoop.rpc.protection
: "${DATA_PROTECTION:=}" "${DATA_ENCRYPTION:=false}" "${DATA_CIPHERS:=}"   # dfs.data.transfer.protection, dfs.encrypt.data.transfer[.cipher.suites], with KERBEROS=1
: "${AMRM_ROLL:=86400}" "${AM_EXPIRY_MS:=60000}"       # seconds between rolls of masters' tokens (over 3 expiries)
: "${AM_ATTEMPTS:=2}"                   # masters of one application, of which a user may want fewer
: "${NM_EXPIRY_MS:=600000}"             # of silence, after which a NodeManager's containers are given up
: "${NM_RECOVERY:=}"                    # names of NodeManagers that find their containers again when they are started anew, for which they need NETNS=1
: "${TOKEN_RENEW_MS:=60000}" "${TOKEN_MAX_MS:=604800000}"   # delegation tokens: until they have to be renewed, and until they can't be any more
: "${NETNS:=0}"                         # 1: each NodeManager in a network namespace of its own (root), which daemon.sh cuts off and joins again
: "${WEB_LOGIN:=0}"                     # 1: the ResourceManager's pages ask who looks (?user.name=alice), and know a browser by a cookie
: "${KERBEROS:=0}"                      # 1: with a KDC (kdc.sh), and daemons that want tickets
: "${LOG_AGGREGATION:=$([ "$HDFS$KERBEROS" = 10 ] && echo true || echo false)}"   # NodeManagers bring the logs of what has ended to HDFS; with Kerberos it would want their native library
: "${LOG_FORMATS:=TFile}"             # in which; the first of several, TFile and IFile
: "${LOG_COMPRESSION:=none}"            # or gz
: "${KRB:=${XDG_CACHE_HOME:-$HOME/.cache}/maniple/krb5}"   # its programs
: "${UP_LIMIT:=120}"                    # seconds until the daemons must be up
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
if [ -z "${JAVA_HOME:-}" ]; then JAVA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v java)")")"); fi
# Java 17 closes what YARN's web pages reach into. Two cores want the serial collector and the first compiler only.
JAVA_OPTS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss512k -Djava.net.preferIPv4Stack=true"
for p in lang util io net nio; do JAVA_OPTS+=" --add-opens=java.base/java.$p=ALL-UNNAMED"; done
JAVA_OPTS+=" --add-opens=java.base/sun.nio.ch=ALL-UNNAMED"
[ ! -e "$DIR/kdc/krb5.conf" ] || JAVA_OPTS+=" -Djava.security.krb5.conf=$DIR/kdc/krb5.conf"
# Fifteen ports: the ResourceManager's for clients, masters, NodeManagers, administrators and browsers, the KDC's, the NameNode's for clients and
# browsers, the second one's, and the second ResourceManager's. NodeManagers and DataNodes take what is free.
PORTS=15
port() { echo $(($(cat "$DIR/port") + $1)); }
# With namespaces, what up.sh chose for this testbed: a bridge, on whose first address all are but the NodeManagers.
[ -e "$DIR/netns" ] && SLOT=$((($(cat "$DIR/port") - 27000) / PORTS)) && NETNS=1 BRIDGE=mhb$SLOT PREFIX=mh$SLOT JAVA_OPTS+=" -Djdk.net.hosts.file=$DIR/hosts"
addr() { # addr NAME: the address of a daemon
  case $NETNS-$1 in 0-*) echo 127.0.0.1;; 1-nm*) echo "10.78.$SLOT.$((10 + ${1#nm}))";; *) echo "10.78.$SLOT.1";; esac
}
# The daemons, by name.
managers() { echo rm; [ "$MANAGERS" = 1 ] || echo rm2; }
namenodes() { echo nn; [ "$NAMENODES" = 1 ] || echo nn2; }
datanodes() { echo dn; for ((i = 2; i <= DATANODES; i++)); do echo "dn$i"; done; }
web_of() { case $1 in nn2) port 9;; *) port 7;; esac; } # a NameNode's port for browsers
