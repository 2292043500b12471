#!/usr/bin/env bash
# A KDC for the testbed in DIR, beside its daemons, on a port of theirs: realm TEST.LOCAL, services rm, nm, nn and dn, users alice
# and bob, all keys in DIR/kdc/keytab. DataNodes and NodeManagers speak from the address
# that their name has. Debian's packages are unpacked into a cache and not installed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
packages="krb5-kdc krb5-admin-server krb5-user libkadm5srv-mit12 libkadm5clnt-mit12 libkdb5-10 libgssrpc4 libverto1 libverto-libev1 libev4
 libkrb5-3 libk5crypto3 libgssapi-krb5-2 libkrb5support0 libkeyutils1"
if [ ! -e "$KRB/.complete" ]; then
  say "fetching the KDC into $KRB"
  rm -rf "$KRB.part"; mkdir -p "$KRB.part/deb"
  (cd "$KRB.part/deb" && { apt-get download -q $packages || { apt-get update -q && apt-get download -q $packages; }; }) >"$DIR/log/apt.log" 2>&1 </dev/null ||
    { tail -5 "$DIR/log/apt.log" >&2; exit 69; }
  for d in "$KRB.part"/deb/*.deb; do dpkg -x "$d" "$KRB.part"; done
  rm -rf "$KRB" "$KRB.part/deb"; mv "$KRB.part" "$KRB"; touch "$KRB/.complete"
fi
k=$DIR/kdc; mkdir -p "$k"; lib=$(dirname "$(find "$KRB" -name libkrb5.so.3 | head -1)")
cat > "$k/krb5.conf" <<EOT
[libdefaults]
 default_realm = TEST.LOCAL
 dns_lookup_kdc = false
 dns_canonicalize_hostname = fallback
 udp_preference_limit = 1
 plugin_base_dir = $lib/krb5/plugins
[realms]
 TEST.LOCAL = {
  kdc = $(addr kdc):$(port 5)
 }
[domain_realm]
 localhost = TEST.LOCAL
[dbmodules]
 db_module_dir = $lib/krb5/plugins/kdb
EOT
cat > "$k/kdc.conf" <<EOT
[kdcdefaults]
 kdc_listen = $(addr kdc):$(port 5)
 kdc_tcp_listen = $(addr kdc):$(port 5)
[realms]
 TEST.LOCAL = {
  database_name = $k/principal
  key_stash_file = $k/stash
  max_renewable_life = 7d
  supported_enctypes = aes256-cts:normal aes128-cts:normal
 }
EOT
export KRB5_CONFIG=$k/krb5.conf KRB5_KDC_PROFILE=$k/kdc.conf LD_LIBRARY_PATH=$lib PATH=$KRB/usr/sbin:$KRB/usr/bin:$PATH
if [ ! -e "$k/keytab" ]; then
  kdb5_util create -s -P master -r TEST.LOCAL >"$DIR/log/kdc.log" 2>&1
  nodes=$(for ((i = 1; i <= NODES; i++)); do echo "nm/$(addr "nm$i")"; done | sort -u)
  for p in rm/localhost nn/localhost HTTP/localhost "dn/$(addr dn)" $nodes alice bob; do echo "addprinc -randkey $p"; echo "ktadd -k $k/keytab $p"; done | kadmin.local >>"$DIR/log/kdc.log" 2>&1
fi
pid_of kdc >/dev/null || { setsid krb5kdc -n >>"$DIR/log/kdc.log" 2>&1 </dev/null & keep kdc $!; }
