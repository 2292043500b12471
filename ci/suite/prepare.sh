#!/usr/bin/env bash
# What `make test` needs beside Go: as root on Debian or Ubuntu it is installed where it is missing, else it
# is named. (The Slurm testbed installs Slurm itself, ci/python/env.sh the Python packages.)
#   prepare.sh             prepare.sh --list prints "PACKAGE  how it is looked for"
set -euo pipefail
wanted='gcc            command -v gcc
g++            command -v g++
cmake          command -v cmake
make           command -v make
git            command -v git
python3        command -v python3
python3-venv   /usr/bin/python3 -c "import venv, ensurepip"
iproute2       PATH=$PATH:/sbin:/usr/sbin command -v ip
util-linux     command -v setpriv && command -v runuser && command -v flock
procps         command -v ps
curl           command -v curl
openjdk-17-jre-headless command -v java
maven          command -v mvn
passwd         PATH=$PATH:/sbin:/usr/sbin command -v useradd'
[ "${1:-}" = --list ] && { printf '%s\n' "$wanted"; exit 0; }
missing=
while read -r package look; do
  (eval "$look") >/dev/null 2>&1 </dev/null || missing+=" $package"
done <<< "$wanted"
[ -n "$missing" ] || { echo "nothing is missing"; exit 0; }
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "prepare.sh: missing:$missing. Install them (Debian's names), or run as root where apt-get is" >&2
  exit 69
fi
echo "installing:$missing"
log=$(mktemp); trap 'rm -f "$log"' EXIT
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } > "$log" 2>&1 </dev/null; then
  tail -5 "$log" >&2
  echo "prepare.sh: these packages could not be installed:$missing" >&2
  exit 69
fi
