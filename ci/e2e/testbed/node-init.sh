# The first process of a node: own host name, hosts file, /tmp and /dev/shm; starts slurmd, and reaps.
n=$1 DIR=$2
hostname "$n"
mount --bind "$DIR/etc/hosts" /etc/hosts
mount -t tmpfs -o mode=1777 "tmp-$n" /tmp
mount -t tmpfs -o mode=1777 "shm-$n" /dev/shm
export SLURM_CONF=$DIR/etc/slurm.conf
cd /
slurmd -f "$SLURM_CONF"
echo "slurmd: $?"
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
