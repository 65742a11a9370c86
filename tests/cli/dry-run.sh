#!/bin/bash
# dry-run: the same refusals with the same status as the command itself, and nothing is changed
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1

state() { find . -name '.err' -o -name '.out' -o -type f -exec cksum {} + | LC_ALL=C sort; }
# ends_same ARGS…: the dry run ends as the command does, and changes nothing.  The command itself
# changes copies.
ends_same() {
	local before want got=0
	before=$(state)
	timeout 20 "$U" "$@" --dry-run >.out 2>.err </dev/null || got=$?
	[ "$(state)" = "$before" ] || fail "$* --dry-run changed something"
	ended=$got
	[ $got = 0 ] || { [ ! -s .out ] && [ "$(grep -c '^vhd-util: ' .err)" = 1 ]; } || fail "$*: $(cat .out .err)"
	mkdir ../"$name" && cp -a . ../"$name"
	want=0
	(cd ../"$name" && timeout 20 "$U" "$@" >/dev/null 2>&1 </dev/null) || want=$?
	rm -rf ../"$name"
	[ $got = "$want" ] || fail "$*: status $got with --dry-run, $want without"
	[ -z "${expect:-}" ] || [ "$want" = "$expect" ] || fail "$*: status $want instead of $expect"
}
# same ARGS…: and a success is told in one line that begins with "would"
same() {
	ends_same "$@"
	[ "$ended" != 0 ] || { [ "$(grep -c '^would ' .out)" = 1 ] && [ "$(wc -l <.out)" = 1 ]; } || fail "$*: $(cat .out)"
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

# a bad table, keys, journals, places for what repair keeps
for args in "modify -z" "resize --size 20M" "resize --size 8M" fill compact; do
	# shellcheck disable=SC2086
	expect=117 same $args holes.vhd
done
expect=117 ends_same optimize holes.vhd
expect=117 same convert holes.vhd new.raw
expect=117 same convert holes.vhd new.vhd
expect=117 same copy holes.vhd new.vhd
expect=117 same rebase v3.vhd holes.vhd
head -c 32 /dev/urandom >key && head -c 32 /dev/urandom >other.key
"$U" create -n secret.vhd -s 4 && "$U" key -s -n secret.vhd -k key || fail "key"
head -c 100000 /dev/urandom | "$U" write secret.vhd --offset 0 --key-file key || fail "write"
"$U" create -n clear.vhd -s 4
for command in "write secret.vhd --offset 0" "fill secret.vhd" "convert secret.vhd new.raw" "convert secret.vhd new.vhd" "copy secret.vhd new.vhd -k other.key"; do
	# shellcheck disable=SC2086
	same $command
	# shellcheck disable=SC2086
	same $command --key-file key
	# shellcheck disable=SC2086
	same $command --key-file other.key
done
expect=22 same write clear.vhd --offset 0 --key-file key
expect=22 same fill clear.vhd --key-file key
for journal in nodir/j v2.vhd . clear.vhd key; do
	same resize clear.vhd --size 8M -j $journal
	same resize fixed.vhd --size 8M -j $journal
done
expect=0 same resize clear.vhd --size 8M -j new-journal
for backup in v2.vhd nodir/x . new; do
	ends_same repair short.vhd --backup $backup
	expect=0 ends_same repair clear.vhd --backup $backup
done
# no permission
if [ "$(id -u)" = 0 ] && chmod 755 . && setpriv --reuid 65534 --clear-groups "$U" query -n v2.vhd -v >/dev/null 2>&1; then
	for args in "modify -z v2.vhd" "modify -n v2.vhd -s 3000320" "repair short.vhd" "rebase v3.vhd v2.vhd" "relink v3.vhd ." \
		"key -s clear.vhd -k key" "resize clear.vhd --size 8M" "revert v2.vhd -j empty" "fill clear.vhd"; do
		# shellcheck disable=SC2086
		check_status 13 setpriv --reuid 65534 --clear-groups "$U" $args --dry-run
	done
fi

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
for args in "modify -z v2.vhd" "modify -n v2.vhd -s 3000320" "repair v2.vhd" "key -s v2.vhd -k key" "revert v2.vhd -j empty" \
	"resize v2.vhd --size 20M"; do
	# shellcheck disable=SC2086
	check_status 16 "$U" $args --dry-run
done
exec 9>&-
wait
mkfifo hold
"$U" write v3.vhd --offset 0 <hold &
exec 9>hold
sleep 0.4
rm hold
for args in "rebase v3.vhd v2.vhd" "relink v3.vhd ." "modify -z v3.vhd"; do
	# shellcheck disable=SC2086
	check_status 16 "$U" $args
	# shellcheck disable=SC2086
	check_status 16 "$U" $args --dry-run
done
exec 9>&-
wait
# by a reader: what moves metadata needs it alone
mkfifo out
"$U" convert fixed.vhd - --to raw >out 2>/dev/null &
exec 8<out
sleep 0.4
rm out
check_status 16 "$U" repair fixed.vhd --dry-run
exec 8<&-
wait
"$U" create -n plain.vhd --size 4M --block-size 4K && head -c 4M /dev/urandom | "$U" write plain.vhd --offset 0 || fail "make"
mkfifo out
"$U" convert plain.vhd - --to raw >out 2>/dev/null &
exec 8<out
sleep 0.4
rm out
check_status 16 "$U" resize plain.vhd --size 400M --dry-run
check_status 16 "$U" resize plain.vhd --size 400M
exec 8<&-
wait
exit 0
