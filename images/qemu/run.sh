#!/bin/sh
# Runs the router on QEMU: run.sh [q35|microvm] [more of QEMU's options]. WAN and LAN are its networks, in -netdev's words.
set -eu
here=$(dirname "$0")
machine=${1:-q35}
[ $# -eq 0 ] || shift
wan=${WAN:-tap,ifname=tap0,script=no,downscript=no}
lan=${LAN:-tap,ifname=tap1,script=no,downscript=no}
config=${CONFIG:-$here/../weir.toml}

case $machine in
q35) nic=virtio-net-pci options= ;;
microvm) nic=virtio-net-device options='-global virtio-mmio.force-legacy=false' ;;
*) echo "run.sh: the machine is q35 or microvm, not $machine" >&2; exit 2 ;;
esac
accel=tcg
[ ! -w /dev/kvm ] || accel=kvm:tcg

# shellcheck disable=SC2086
exec qemu-system-x86_64 -machine "$machine,accel=${ACCEL:-$accel}" -cpu "${CPU:-max}" -smp "${CPUS:-2}" -m "${MEMORY:-64}" \
    -nodefaults -no-user-config -display none -serial stdio $options \
    -kernel "${IMAGE:-$here/../out/weir.elf}" -initrd "$config" \
    -netdev "$wan,id=wan" -device "$nic,netdev=wan,mac=52:54:00:00:00:01" \
    -netdev "$lan,id=lan" -device "$nic,netdev=lan,mac=52:54:00:00:00:02" "$@"
