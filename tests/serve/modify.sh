#!/usr/bin/env bash
# modify - another parent of a leaf while it is served and written: the inner image has been
# merged into the base and goes away; pause and unpause find the new chain
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need fio nbdcopy
dir=$(mktemp -d "${BIG_TMPDIR:-/var/tmp}/vhd-test.XXXXXX") || skip "no /var/tmp"
at_exit "rm -rf '$dir'"
fill() { head -c "$2" /dev/zero | tr '\0' "$1"; }

make_chain() {
	rm -f "$dir"/*.vhd
	vhd-util create -n "$dir/base.vhd" -s 128
	fill a 1M | vhd-util write "$dir/base.vhd" --offset 0
	vhd-util snapshot -n "$dir/mid.vhd" -p "$dir/base.vhd"
	for ((k = 0; k < 40; k++)); do
		fill b 300000 | vhd-util write "$dir/mid.vhd" --offset $((k * 2097152 + 512 * (k + 1)))
	done
	vhd-util snapshot -n "$dir/leaf.vhd" -p "$dir/mid.vhd"
	vhd-util convert "$dir/leaf.vhd" before.raw --force || fail "convert"
}
# load FILE: verified writes to the last 28 MiB while others do what they do
load() {
	timeout 100 fio --name=v --ioengine=nbd --uri="$uri" --rw=randrw --bs=4k --iodepth=8 --offset=100m \
		--size=28m --io_size="$1" --verify=crc32c --verify_backlog=256 --verify_state_save=0 \
		--verify_fatal=1 --output=fio.log &
	load=$!
}
intact() {
	timeout 60 nbdcopy "$uri" after.raw || fail "nbdcopy, $1"
	cmp -n $((100 << 20)) before.raw after.raw || fail "the disk changed, $1"
}

# past the page cache, and through it
for mode in "" -D; do
	make_chain
	# shellcheck disable=SC2086 # none or one
	new_disk "vhd:$dir/leaf.vhd" $mode
	load 48m
	vhd-util coalesce -n "$dir/mid.vhd" >/dev/null || fail "coalesce below a running leaf"
	for ((k = 0; k < 5; k++)); do
		vhd-util modify -n "$dir/leaf.vhd" -p "$dir/base.vhd" || fail "another parent, running"
		vhd-util modify -n "$dir/leaf.vhd" -p "$dir/mid.vhd" || fail "and back"
	done
	vhd-util modify -n "$dir/leaf.vhd" -p "$dir/base.vhd" || fail "another parent, running"
	[ "$(vhd-util query -n "$dir/leaf.vhd" -p)" = "$dir/base.vhd" ] || fail "query"
	check_status 16 vhd-util modify -n "$dir/leaf.vhd" -z
	check_status 16 vhd-util modify -n "$dir/leaf.vhd" -s $((1 << 30))
	# the server goes on with the chain it has, paused in between
	intact "before the pause"
	tap-ctl pause -p "$pid" -m "$minor" || fail pause
	rm "$dir/mid.vhd"
	vhd-util check -n "$dir/leaf.vhd" -p >out || fail "check while paused: $(cat out)"
	tap-ctl unpause -p "$pid" -m "$minor" || fail unpause
	wait $load || fail "fio: $(tail -3 fio.log)"
	intact "after the pause"
	vhd-util query -n "$dir/leaf.vhd" -d | grep -q 'chain depth: 2' || fail "depth"
	end_disk
	vhd-util compare "$dir/leaf.vhd" after.raw || fail "on disk it differs"
	vhd-util check -n "$dir/leaf.vhd" -p -b >out || fail "check: $(cat out)"
done

# a growth needs the copy of the footer as well: one after the other
make_chain
vhd-util snapshot -n "$dir/wide.vhd" -p "$dir/mid.vhd" -S 256
new_disk "vhd:$dir/wide.vhd"
mkfifo held go
python3 - "$dir/wide.vhd" <<'END' &
import fcntl, struct, sys
image = open(sys.argv[1], "r+b")
OFD_SETLK, HEADER = 37, 2**62 + 2
fcntl.fcntl(image, OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, HEADER, 1, 0))
with open("held", "w") as f:
    f.write("held")
open("go").read()
END
holder=$!
[ "$(timeout 20 cat held)" = held ] || fail "no lock"
check_status 16 tap-ctl resize -p "$pid" -m "$minor" --size 192M
timeout 20 sh -c 'echo >go'
wait $holder || fail "the holder of the lock"
tap-ctl resize -p "$pid" -m "$minor" --size 192M || fail "growth after it"
vhd-util modify -n "$dir/wide.vhd" -p "$dir/mid.vhd" || fail "another parent after a growth"
end_disk
vhd-util check -n "$dir/wide.vhd" -p >out || fail "check: $(cat out)"

# while paused the whole of it may be done, with a path that needs more room
make_chain
mkdir -p "$dir/$(printf 'd%.0s' {1..250})/$(printf 'e%.0s' {1..250})/$(printf 'f%.0s' {1..250})"
long=$(echo "$dir"/d*/e*/f*)
new_disk "vhd:$dir/leaf.vhd"
load 32m
cp "$dir/mid.vhd" "$long/"
cp "$dir/base.vhd" "$long/"
check_status 16 vhd-util modify -n "$dir/leaf.vhd" -p "$long/mid.vhd" --parent-root "$long"
check_err 'too small'
tap-ctl pause -p "$pid" -m "$minor" || fail pause
vhd-util modify -n "$dir/leaf.vhd" -p "$long/mid.vhd" || fail "a long path"
tap-ctl unpause -p "$pid" -m "$minor" || fail unpause
wait $load || fail "fio: $(tail -3 fio.log)"
intact "on a long path"
end_disk
vhd-util check -n "$dir/leaf.vhd" -p -b >out || fail "check: $(cat out)"
rm -rf "${dir:?}"/d*
exit 0
