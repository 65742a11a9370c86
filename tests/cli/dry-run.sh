#!/bin/bash
# dry-run: the same refusals with the same status as the command itself, and nothing is changed
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1

state() { find . -name '.err' -o -name '.out' -o -type f -exec sha256sum {} + | LC_ALL=C sort; }
# same ARGS…: the dry run ends as the command does; where that is a success it says so in a line
# of its own that begins with "would", and changes nothing.  The command itself changes copies.
same() {
	local before want got=0
	before=$(state)
	timeout 20 "$U" "$@" --dry-run >.out 2>.err </dev/null || got=$?
	[ "$(state)" = "$before" ] || fail "$* --dry-run changed something"
	if [ $got = 0 ]; then
		[ "$(grep -c '^would ' .out)" = 1 ] && [ "$(wc -l <.out)" = 1 ] || fail "$*: $(cat .out)"
	else
		[ ! -s .out ] && [ "$(grep -c '^vhd-util: ' .err)" = 1 ] || fail "$*: $(cat .out .err)"
	fi
	mkdir ../"$name" && cp -a . ../"$name"
	want=0
	(cd ../"$name" && timeout 20 "$U" "$@" >/dev/null 2>&1 </dev/null) || want=$?
	rm -rf ../"$name"
	[ $got = "$want" ] || fail "$*: status $got with --dry-run, $want without"
	[ -z "${expect:-}" ] || [ "$want" = "$expect" ] || fail "$*: status $want instead of $expect"
}
name=$(basename "$T").copy
at_exit "rm -rf '$T/../$name'"

make_v2 v2.vhd
make_v3 v3.vhd
make_xs xs.vhd
cp v2.vhd short.vhd && truncate -s -512 short.vhd
cp v2.vhd holes.vhd && put holes.vhd 1540 00000005
cp xs.vhd hidden.vhd && "$U" set -n hidden.vhd -f hidden -v 1 || fail "hide"
"$U" create -n fixed.vhd -s 2 -r || fail "create"
python3 - <<'PY' || skip "no python3"
def footer(b, cookie):
    b = bytearray(b)
    b[0:8], b[64:68] = cookie, bytes(4)
    b[64:68] = (~sum(b) & 0xffffffff).to_bytes(4, "big")
    return bytes(b)
whole = open("v2.vhd", "rb").read()
poisoned = footer(whole[:512], b"v_poison")
open("poisoned.vhd", "wb").write(poisoned + whole[512:-512] + poisoned)
PY
head -c 3000000 /dev/urandom >disk.raw
: >empty
mkdir directory

expect=0 same create -n new.vhd -s 4
expect=0 same create -n empty -s 4
expect=17 same create -n v2.vhd -s 4
expect=0 same create -n v2.vhd -s 4 --force
expect=22 same create -n new.vhd -s 0
expect=22 same create -n directory -s 4
expect=34 same create -n new.vhd --size 3T
expect=2 same create -n no/new.vhd -s 4

expect=0 same snapshot -n new.vhd -p v2.vhd
expect=0 same snapshot -n new.vhd -p disk.raw -m
expect=0 same snapshot -n new.vhd -p short.vhd
expect=17 same snapshot -n v3.vhd -p v2.vhd
expect=28 same snapshot -n new.vhd -p v3.vhd -l 2
expect=16 same snapshot -n new.vhd -p poisoned.vhd
expect=117 same snapshot -n new.vhd -p holes.vhd
expect=117 same snapshot -n new.vhd -p disk.raw

for image in v2.vhd short.vhd xs.vhd hidden.vhd fixed.vhd; do
	expect=0 same set -n $image -f hidden -v 0
done
expect=16 same set -n poisoned.vhd -f hidden -v 1
expect=95 same set -n v2.vhd -f marker -v 1
expect=0 same set -n xs.vhd -f marker -v 1
expect=117 same set -n disk.raw -f hidden -v 1
same set -n holes.vhd -f hidden -v 1

expect=0 same write v3.vhd --offset 1M
expect=16 same write hidden.vhd --offset 0
expect=0 same write hidden.vhd --offset 0 --force
expect=16 same write poisoned.vhd --offset 0
expect=117 same write holes.vhd --offset 0
expect=117 same write disk.raw --offset 0
expect=2 same write no.vhd --offset 0

expect=0 same coalesce v3.vhd
expect=22 same coalesce v2.vhd
expect=2 same coalesce no.vhd

expect=0 same convert v3.vhd new.raw
expect=0 same convert disk.raw new.vhd
expect=17 same convert v3.vhd disk.raw
expect=0 same convert v3.vhd disk.raw --force
expect=2 same convert no.vhd new.raw
expect=16 same convert poisoned.vhd new.raw
expect=22 same convert disk.raw new.vhd --block-size 3M
expect=22 same convert disk.raw new.vhd --for azure --to dynamic
expect=2 same convert disk.raw no/new.vhd
expect=22 same convert empty new.vhd
mv v2.vhd away.vhd
expect=2 same convert v3.vhd new.raw
expect=2 same write v3.vhd --offset 0
same coalesce v3.vhd
expect=0 same set -n v3.vhd -f hidden -v 1
mv away.vhd v2.vhd

# in use elsewhere
mkfifo hold
"$U" write v2.vhd --offset 0 <hold &
exec 9>hold
sleep 0.4
rm hold # or a copy of this directory would wait for it
for args in "set -n v2.vhd -f hidden -v 1" "write v2.vhd --offset 0" "coalesce v3.vhd" \
	"snapshot -n new.vhd -p v2.vhd" "create -n v2.vhd -s 4 --force"; do
	# shellcheck disable=SC2086
	check_status 16 "$U" $args --dry-run
done
exec 9>&-
wait
exit 0
