#!/bin/bash
# write: bytes from stdin into the leaf; ends of the disk, refusals, interruption
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# expect IMAGE: its contents are those of model.raw
expect() {
	"$U" convert "$1" got.raw --force || fail "convert $1"
	cmp got.raw model.raw || fail "contents of $1"
	check_status 0 "$U" check -p -b "$1"
}
# both IMAGE OFFSET BYTES: the same random bytes into the image and the model
both() {
	head -c "$3" /dev/urandom >piece
	dd if=piece of=model.raw bs=64k seek="$2" oflag=seek_bytes conv=notrunc status=none
	check_status 0 "$U" write "$1" --offset "$2" <piece
	[ ! -s .out ] && [ ! -s .err ] || fail "not silent"
}

for kind in '' '-r' '--block-size 4K'; do
	rm -f a.vhd b.vhd
	# shellcheck disable=SC2086
	"$U" create -n a.vhd --size 9437696 $kind || fail "create $kind"
	rm -f model.raw && truncate -s 9437696 model.raw
	both a.vhd 0 1
	both a.vhd 511 2
	both a.vhd 2097151 2
	both a.vhd 1048577 3000000
	both a.vhd 9437000 696
	expect a.vhd
	cp a.vhd a.keep
	"$U" snapshot -n b.vhd -p a.vhd || fail "snapshot of $kind"
	both b.vhd 3 5000
	both b.vhd 2097000 4194304
	both b.vhd 9437695 1
	expect b.vhd
	cmp a.vhd a.keep || fail "the parent was written"
done

# slow input, in pieces
rm -f a.vhd && "$U" create -n a.vhd -s 10 || fail create
truncate -s 0 model.raw && truncate -s 10M model.raw
(printf one; sleep 0.2; printf two) | "$U" write a.vhd --offset 1M || fail "pipe"
printf onetwo | dd of=model.raw bs=1 seek=1M conv=notrunc status=none
expect a.vhd
# no input at all
check_status 0 "$U" write a.vhd --offset 10M </dev/null
expect a.vhd

# beyond the end: nothing of the piece that does not fit, what was before stays
check_status 34 "$U" write a.vhd --offset 10M <<<x
check_status 34 "$U" write a.vhd --offset 10485759 <<<xy
check_status 34 "$U" write a.vhd --offset 18446744073709551615 <<<xy
expect a.vhd
head -c 3145728 /dev/urandom >piece
check_status 34 "$U" write a.vhd --offset 8M <piece
check_err '2097152 bytes'
dd if=piece of=model.raw bs=1M seek=8 count=2 conv=notrunc status=none
expect a.vhd
check_status 34 "$U" write a.vhd --offset 11M --dry-run
check_status 0 "$U" write a.vhd --offset 1M --dry-run <<<x
expect a.vhd

# refused
check_status 22 "$U" write a.vhd <<<x
check_status 22 "$U" write --offset 0 <<<x
check_status 22 "$U" write a.vhd --offset x <<<x
check_status 2 "$U" write no.vhd --offset 0 <<<x
check_status 117 "$U" write model.raw --offset 0 <<<x
check_status 0 "$U" set -n a.vhd -f hidden -v 1
check_status 16 "$U" write a.vhd --offset 0 <<<x
check_err 'hidden'
expect a.vhd
check_status 0 "$U" set -n a.vhd -f hidden -v 0

# two writers; then Ctrl-C while the input is silent: ends, and keeps what it had
mkfifo hold
env --default-signal=INT "$U" write a.vhd --offset 4M <hold 2>cut.err &
writer=$!
exec 9>hold
sleep 0.3
check_status 16 "$U" write a.vhd --offset 0 <<<x
head -c 1048576 /dev/urandom >piece
cat piece >&9
sleep 0.3
kill -INT $writer
wait $writer
status=$?
exec 9>&-
[ $status = 130 ] || fail "Ctrl-C: status $status"
grep -q 'interrupted' cut.err || fail "Ctrl-C: $(cat cut.err)"
dd if=piece of=model.raw bs=1M seek=4 conv=notrunc status=none
expect a.vhd
exit 0
