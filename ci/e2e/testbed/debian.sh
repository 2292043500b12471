# Sourced: a tree of another Debian than this machine's, made once (some minutes), and commands in it.
#   RELEASE (trixie: Debian 13), ROOT, top: the project      debian_tree: makes $tree      debian_run DIR COMMAND...: in it, with namespaces of its own
# What runs there has the project and $bin at the same paths as here, and this machine's way to packages; all of it ends with the command.
: "${ROOT:=/var/tmp/maniple-e2e}" "${RELEASE:=trixie}"
tree=$ROOT/$RELEASE top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
say() { echo "[$RELEASE] $*" >&2; }

debian_tree() {
  [ "$(id -u)" = 0 ] || { say "needs root"; exit 77; }
  mkdir -p "$ROOT"; chmod 755 "$ROOT"
  exec 9>"$ROOT/.$RELEASE"; flock 9
  if [ ! -e "$tree/.complete" ]; then
    command -v debootstrap >/dev/null || { apt-get update && apt-get install -y --no-install-recommends debootstrap; } >"$ROOT/$RELEASE.log" 2>&1
    # The archive that this machine's own apt is set to, else debootstrap's own.
    mirror=$(sed -n "s/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\).*/\2/p" /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
    say "making $tree (minutes)"
    rm -rf --one-file-system "$tree"
    debootstrap --variant=minbase --include=ca-certificates,procps "$RELEASE" "$tree" ${mirror:+"$mirror"} >"$ROOT/$RELEASE.log" 2>&1
    cp /etc/resolv.conf "$tree/etc/"; cp -n /etc/apt/apt.conf.d/* "$tree/etc/apt/apt.conf.d/" 2>/dev/null || true
    printf '#!/bin/sh\nexit 101\n' > "$tree/usr/sbin/policy-rc.d"; chmod 755 "$tree/usr/sbin/policy-rc.d" # no package starts its daemon
    chroot "$tree" env PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update && apt-get install -y --no-install-recommends \
      slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge iproute2 passwd util-linux python3 python3-venv' >>"$ROOT/$RELEASE.log" 2>&1
    touch "$tree/.complete"
  fi
  exec 9>&-
  bin=$(mktemp -d "$ROOT/modern-XXXXXX"); chmod 755 "$bin"; trap 'rm -rf "$bin" "$tree$bin"' EXIT
}

debian_run() {
  local enter
  enter=$(cat <<'S'
set -e
tree=$1 top=$2 bin=$3 dir=$4; shift 4
mount --bind "$tree" "$tree"
cp /etc/resolv.conf "$tree/etc/"
for f in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do [ ! -e $f ] || cp $f "$tree$f"; done # how this machine reaches packages
echo "127.0.0.1 localhost $(hostname)" > "$tree/etc/hosts"
mount -t proc proc "$tree/proc"; mount --rbind /dev "$tree/dev"; mount -t sysfs sys "$tree/sys"
mount -t tmpfs -o mode=755 run "$tree/run"; mount -t tmpfs -o mode=1777 tmp "$tree/tmp"
for d in "$top" "$bin"; do mkdir -p "$tree$d"; mount --bind "$d" "$tree$d"; done
exec chroot "$tree" env PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TZ=UTC MANIPLE_BINARY="$bin/maniple" sh -c 'cd "$1" && shift && exec "$@"' - "$dir" "$@"
S
)
  unshare --mount --propagation private --pid --fork --kill-child bash -c "$enter" - "$tree" "$top" "$bin" "$@" </dev/null
}
