#!/bin/bash
# set: hidden and marker, and that nothing else changes
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1
make_xs xs.vhd
make_v2 v2.vhd

# the batmap keeps its bits under a new marker, and all commands go on
cp xs.vhd m.vhd
check_out '' "$U" set -n m.vhd -f marker -v 9
[ "$(cmp -l xs.vhd m.vhd | wc -l)" = 1 ] || fail "marker changes $(cmp -l xs.vhd m.vhd)"
check_out 'marker: 9' "$U" query -n m.vhd -m
check_out 3 "$U" query -n m.vhd -a
check_out 'm.vhd is valid' "$U" check m.vhd -b
check_status 0 "$U" compare m.vhd xs.vhd
check_status 0 "$U" set m.vhd --field marker --value 0
cmp m.vhd xs.vhd || fail "marker back"

# hidden: the byte and the checksum of both footers
check_out '' "$U" set -n m.vhd -f hidden -v 1
[ "$(cmp -l xs.vhd m.vhd | wc -l)" = 4 ] || fail "hidden changes $(cmp -l xs.vhd m.vhd)"
check_out 'hidden: 1' "$U" query -n m.vhd -f
check_status 0 "$U" set -n m.vhd -f hidden -v 0
cmp m.vhd xs.vhd || fail "hidden back"

# no batmap, no marker; nothing written
cp v2.vhd n.vhd
check_status 95 "$U" set -n n.vhd -f marker -v 1
cmp n.vhd v2.vhd || fail "a refusal wrote"

# a batmap that cannot be trusted is not written to
cp xs.vhd b.vhd
put b.vhd 0xa00 00
check_status 95 "$U" set -n b.vhd -f marker -v 1

# usage, files, dry run
check_status 22 "$U" set -n xs.vhd -f hidden
check_status 22 "$U" set -n xs.vhd -v 1
check_status 22 "$U" set -n xs.vhd -f hidden -v 256
check_status 22 "$U" set -n xs.vhd -f hidden -v -1
check_status 22 "$U" set -f hidden -v 1
check_status 2 "$U" set -n no.vhd -f hidden -v 1
check_status 2 "$U" set -n no.vhd -f hidden -v 1 --dry-run
check_status 22 "$U" set -n . -f hidden -v 1
cp xs.vhd d.vhd
check_status 0 "$U" set -n d.vhd -f hidden -v 1 --dry-run
cmp d.vhd xs.vhd || fail "a dry run wrote"
head -c 5000 /dev/zero >z
check_status 117 "$U" set -n z -f hidden -v 1

# not while somebody writes
mkfifo hold
"$U" write d.vhd --offset 0 <hold &
exec 9>hold
sleep 0.3
check_status 16 "$U" set -n d.vhd -f hidden -v 1
check_err "vhd-util (pid"
exec 9>&-
wait
check_status 0 "$U" set -n d.vhd -f hidden -v 1
exit 0
