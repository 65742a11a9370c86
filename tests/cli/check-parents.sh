#!/bin/bash
# check of chains: missing, wrong and damaged parents, each with its own status
# shellcheck disable=SC1091
. "$(dirname "$0")/../lib/cli.sh"
# shellcheck disable=SC1091
. "$(dirname "$0")/vectors.inc"

cd "$T" || exit 1
make_v2 v2.vhd
make_v3 v3.vhd

# a child by Windows, whose absolute locator names nothing here, is sound
[ "$("$BIN/vhd-util" check -n v3.vhd)" = "v3.vhd is valid" ] || fail "child"
touch -d 2024-02-29T12:35:00Z v2.vhd
[ "$("$BIN/vhd-util" check -n v3.vhd -p -b)" = "v3.vhd is valid" ] || fail "chain"
touch v2.vhd
[ "$("$BIN/vhd-util" check -n v3.vhd -p -t)" = "v3.vhd is valid" ] || fail "chain, -t"
check_status 0 "$BIN/vhd-util" check -n v3.vhd -p
"$BIN/vhd-util" check -n v3.vhd -p | grep -q 'warning: .*v2.vhd' || fail "no warning about the time"

# damage below is found with -p only, and its file is named
put v2.vhd 1536 00000001
check_status 0 "$BIN/vhd-util" check -n v3.vhd
check_status 117 "$BIN/vhd-util" check -n v3.vhd -p
"$BIN/vhd-util" check -n v3.vhd -p >out
grep -q 'v2.vhd: block 0' out || fail "the parent is not named: $(cat out)"

# another image under the parent's name
make_xs v2.vhd
check_status 117 "$BIN/vhd-util" check -n v3.vhd
check_status 0 "$BIN/vhd-util" check -n v3.vhd -I
check_status 0 "$BIN/vhd-util" check -n v3.vhd -I -p -t

# none
rm v2.vhd
check_status 2 "$BIN/vhd-util" check -n v3.vhd
"$BIN/vhd-util" check -n v3.vhd >out
grep -q '^v3.vhd: ' out || fail "no finding about the missing parent: $(cat out)"

# one that is its own parent
make_v3 v2.vhd
put v2.vhd 0x228 c0ffee0012344abc8def0123456789ab
put v2.vhd 0x224 ffffe4ec
check_status 40 timeout 10 "$BIN/vhd-util" check -n v2.vhd -p
