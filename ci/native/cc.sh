#!/bin/sh
# The C compiler for maniple-native: zig's, for glibc 2.17. build.sh says which Python has it and for what machine.
# go-nvml gives the linker a flag that zig does not know, and that is not needed: what it leaves open is defined (stubs.c).
n=$#
while [ "$n" -gt 0 ]; do
  arg=$1
  shift
  n=$((n - 1))
  case $arg in
  -Wl,--unresolved-symbols=*) ;;
  *) set -- "$@" "$arg" ;;
  esac
done
exec "$MANIPLE_ZIG_PYTHON" -m ziglang cc -target "$MANIPLE_ZIG_MACHINE-linux-gnu.2.17" "$@"
