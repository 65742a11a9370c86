#!/bin/bash
# check --for TARGET explains each rule that an image breaks
# shellcheck disable=SC1091
. "$(dirname "$0")/../lib/cli.sh"

explains() { # TARGET FILE TEXT
	"$BIN/vhd-util" check --for "$1" "$2" >out && fail "$2 suits $1"
	grep -q -- "$3" out || fail "for $1, '$3' is not in: $(cat out)"
}

cd "$T" || exit 1
"$BIN/vhd-util" create -n dyn.vhd -s 32 || fail "create"
"$BIN/vhd-util" create -n odd.vhd --fixed --size 33554944 || fail "create odd"
"$BIN/vhd-util" create -n small.vhd --fixed --size 4M || fail "create small"
"$BIN/vhd-util" create -n good.vhd --fixed --size 32M || fail "create good"
"$BIN/vhd-util" create -n tiny-blocks.vhd --size 32M --block-size 64K || fail "create blocks"

check_status 117 "$BIN/vhd-util" check --for azure dyn.vhd
explains azure dyn.vhd 'fixed disks only'
explains azure odd.vhd 'whole number of MiB'
explains azure small.vhd 'at least 20 MiB'
check_status 0 "$BIN/vhd-util" check --for azure good.vhd
cp good.vhd good.img
explains azure good.img 'named .vhd'
explains hyperv tiny-blocks.vhd '2 MiB or 512 KiB'
explains xen tiny-blocks.vhd 'blocks of 2 MiB'
explains xen odd.vhd 'steps of 2 MiB'
check_status 0 "$BIN/vhd-util" check --for xen dyn.vhd
check_status 0 "$BIN/vhd-util" check --for hyperv dyn.vhd
explains vpc dyn.vhd 'Virtual PC shows what the geometry'
