#!/bin/bash
# peers-manage: what the other tools got wrong when images are managed: resize, revert, copy, fill, scan, repair
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1
has() { "$U" --help | grep -q "^  $1 "; }
head -c 3000000 /dev/urandom >data || fail "make"
same() { # FILE RAW: the disk is the raw one, zeros behind its end
	"$U" convert "$1" same.raw --force || fail "convert $1"
	truncate -s "$(stat -c %s same.raw)" "$2"
	cmp same.raw "$2" || fail "$3"
}

# set marker zeroed a sector of the batmap: query, check, repair and open all failed then
make_xs marked.vhd
check_status 0 "$U" set -n marked.vhd -f marker -v 9
check_out 'marker: 9' "$U" query -n marked.vhd -m
check_out 'marked.vhd is valid' "$U" check -b marked.vhd
check_status 0 "$U" repair -n marked.vhd
check_out 'marker: 9' "$U" query -n marked.vhd -m

# an image with room in its metadata: its resize could not be reverted
check_status 0 "$U" create -n room.vhd -s 64 -S 128
"$U" write room.vhd --offset 1M <data || fail "write"
"$U" convert room.vhd room.raw || fail "convert"
for delay in 0 0.01 0.02 0.04; do
	cp room.vhd cut.vhd
	"$U" resize -n cut.vhd -s 1024 -j cut.journal >/dev/null 2>&1 &
	pid=$!
	sleep $delay
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	[ ! -e cut.journal ] || "$U" revert -n cut.vhd -j cut.journal || fail "revert after $delay s"
	cp room.raw model.raw
	same cut.vhd model.raw "contents after a resize cut off after $delay s"
	[ "$("$U" check -b cut.vhd | head -1)" = 'cut.vhd is valid' ] || fail "$("$U" check -b cut.vhd)" # space may be lost
done
rm -f cut.* model.raw

# fixed images could not be resized, nothing could be made smaller
check_status 0 "$U" create -n fixed.vhd -s 4 -r
"$U" write fixed.vhd --offset 1000 <data || fail "write"
"$U" convert fixed.vhd fixed.raw || fail "convert"
check_status 0 "$U" resize -n fixed.vhd -s 16
check_out 16 "$U" query -n fixed.vhd -v
same fixed.vhd fixed.raw "a fixed image that grew"
check_status 0 "$U" resize -n fixed.vhd -s 4
check_out 4 "$U" query -n fixed.vhd -v
truncate -s 4M fixed.raw && same fixed.vhd fixed.raw "a fixed image that shrank"
check_out 'fixed.vhd is valid' "$U" check fixed.vhd
check_status 0 "$U" resize -n room.vhd -s 32
truncate -s 32M room.raw && same room.vhd room.raw "a dynamic image that shrank"

# copy refused differencing images
check_status 0 "$U" create -n base.vhd -s 32
check_status 0 "$U" snapshot -n child.vhd -p base.vhd -e
"$U" write base.vhd --offset 5000 <data && "$U" write child.vhd --offset 7000 <data || fail "write"
check_status 0 "$U" copy -n child.vhd -N copy.vhd
check_status 0 "$U" compare child.vhd copy.vhd
check_out "$(pwd -P)/base.vhd" "$U" query -n copy.vhd -p

# fill -b left no footer, and a later coalesce corrupted its heap
if has fill; then
	cp child.vhd filled.vhd
	rm copy.vhd
	check_status 0 "$U" fill -n filled.vhd -b
	check_status 0 "$U" check -b filled.vhd
	mv filled.vhd child.vhd
	"$U" convert child.vhd child.raw || fail "convert"
	check_status 0 "$U" coalesce -n child.vhd
	check_status 0 "$U" compare base.vhd child.raw
	check_out 'base.vhd is valid' "$U" check -b base.vhd
fi

# scan -c of a missing file printed a line about nothing
check_status 0 "$U" scan -c base.vhd missing.vhd
[ "$(wc -l <.out)" = 2 ] && [ "$(grep -c '^vhd=base.vhd capacity=33554432 ' .out)" = 1 ] &&
	[ "$(grep -c "^vhd=missing.vhd scan-error=-2 error-message='" .out)" = 1 ] || fail "scan: $(cat .out)"
check_status 2 "$U" scan missing.vhd

# out of space was 5, and left images that did not open
if [ "$(id -u)" = 0 ] && mkdir full && mount -t tmpfs -o size=8M none full 2>/dev/null; then
	at_exit "umount '$T/full' 2>/dev/null"
	"$U" create -n full/b.vhd -s 64 && "$U" snapshot -n full/c.vhd -p full/b.vhd -e || fail "make"
	head -c 5000000 /dev/urandom | "$U" write full/c.vhd --offset 0 || fail "write"
	"$U" convert full/c.vhd c.raw || fail "convert"
	check_status 28 "$U" coalesce -n full/c.vhd
	check_status 0 "$U" compare full/c.vhd c.raw
	check_status 28 "$U" copy -n full/c.vhd -N full/d.vhd
	[ ! -e full/d.vhd ] || fail "half a copy"
	mount -o remount,size=32M full
	check_status 0 "$U" coalesce -n full/c.vhd
	check_status 0 "$U" compare full/b.vhd c.raw
fi

# a kill between the map and its header: repair failed for good
make_xs torn.vhd
put torn.vhd 0xa00 ff
check_status 117 "$U" check torn.vhd
check_status 0 "$U" repair torn.vhd
check_out 'torn.vhd is valid' "$U" check -b torn.vhd
make_xs xs.vhd
check_status 0 "$U" compare torn.vhd xs.vhd
# repaired twice there is nothing left to do
cp torn.vhd again.vhd
check_status 0 "$U" repair again.vhd
cmp torn.vhd again.vhd || fail "a second repair changed something"
exit 0
