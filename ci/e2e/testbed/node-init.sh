# The first process of a node: own host name, hosts file, /tmp, /dev and /dev/shm; starts slurmd, and reaps.
n=$1 DIR=$2 gpus=$3
hostname "$n"
mount --bind "$DIR/etc/hosts" /etc/hosts
mount -t tmpfs -o mode=1777 "tmp-$n" /tmp
# GPUs are twins of /dev/null where the driver would have them: slurmd wants character devices (with plain
# files there is no CUDA_VISIBLE_DEVICES), and maniple looks for what Slurm grants.
dev=$DIR/dev/$n; mkdir -p "$dev"
mount -t tmpfs -o mode=755 "dev-$n" "$dev"
for d in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do IFS=: read -r name major minor <<< "$d"; mknod -m 666 "$dev/$name" c "$major" "$minor"; done
for ((i = 0; i < gpus; i++)); do mknod -m 666 "$dev/nvidia$i" c 1 3; done
mkdir -p "$dev/pts" "$dev/shm"; ln -s pts/ptmx "$dev/ptmx"; ln -s /proc/self/fd "$dev/fd"
for i in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${i%%:*}" "$dev/${i#*:}"; done
mount -t devpts -o newinstance,mode=620,ptmxmode=666 "pts-$n" "$dev/pts"; mount --rbind "$dev" /dev
mount -t tmpfs -o mode=1777 "shm-$n" /dev/shm
export SLURM_CONF=$DIR/etc/slurm.conf
cd /
slurmd -f "$SLURM_CONF"
echo "slurmd: $?"
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
