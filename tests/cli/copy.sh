#!/bin/bash
# copy: the same data in another image, with parents too; encrypted, anew, and decrypted
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need sha256sum
cd "$T" || exit 1
head -c 32 /dev/urandom >k1 && head -c 64 /dev/urandom >k2 && head -c 3000000 /dev/urandom >data || fail "make"
check_status 0 "$U" create -n base.vhd --size 64M
"$U" write base.vhd --offset 1000 <data || fail "write"
check_status 0 "$U" snapshot -n mid.vhd -p base.vhd -e
"$U" write mid.vhd --offset 33M <data || fail "write"
check_status 0 "$U" snapshot -n leaf.vhd -p mid.vhd -e
echo leaf | "$U" write leaf.vhd --offset 1500 || fail "write"
"$U" convert leaf.vhd want.raw || fail "convert"
image_id() { "$U" info --json "$1" | sed -n 's/^  "id": "\(.*\)",/\1/p'; }

# one without a parent, one with: sizes, room, parent and contents are its source's, the id is not
for f in base mid leaf; do
	check_out "" "$U" copy -n $f.vhd -N $f.copy.vhd
	check_status 0 "$U" compare $f.vhd $f.copy.vhd
	check_out "$f.copy.vhd is valid" "$U" check -p -b $f.copy.vhd
	[ "$(image_id $f.vhd)" != "$(image_id $f.copy.vhd)" ] || fail "$f: the same id"
	for q in -v -p -a -S -f -m; do
		[ "$("$U" query $q -n $f.vhd | sed 's/copy.//')" = "$("$U" query $q -n $f.copy.vhd | sed 's/copy.//')" ] || fail "$f: query $q"
	done
done
"$U" convert leaf.copy.vhd again.raw && cmp want.raw again.raw || fail "contents through the chain"
if command -v 7zz >/dev/null; then
	[ "$(7zz x -tvhd -so leaf.copy.vhd 2>/dev/null | sha256sum)" = "$(sha256sum <want.raw)" ] || fail "7-Zip reads another disk"
fi
[ "$(stat -c %b leaf.copy.vhd)" -lt 5000 ] || fail "a small leaf became large"
# somewhere else the parent is found from there; a hidden one is copied as an ordinary one
mkdir -p sub/dir
check_status 0 "$U" copy leaf.vhd sub/dir/l.vhd
check_status 0 "$U" compare leaf.vhd sub/dir/l.vhd
mv sub/dir moved && check_status 2 "$U" compare leaf.vhd moved/l.vhd
check_status 0 "$U" set -n base.copy.vhd -f hidden -v 1
check_status 0 "$U" copy base.copy.vhd base.copy2.vhd
check_out "hidden: 0" "$U" query -n base.copy2.vhd -f
# a raw parent
truncate -s 64M raw.img && dd if=data of=raw.img conv=notrunc status=none
check_status 0 "$U" snapshot -n onraw.vhd -p raw.img -m
echo x | "$U" write onraw.vhd --offset 5 || fail "write"
check_status 0 "$U" copy onraw.vhd onraw2.vhd
check_status 0 "$U" compare onraw.vhd onraw2.vhd
# small blocks, and a fixed image
check_status 0 "$U" create -n small.vhd --size 8M --max-size 64M --block-size 4K
"$U" write small.vhd --offset 777777 <data || fail "write"
check_status 0 "$U" copy small.vhd small2.vhd -k k1
check_status 0 "$U" compare small.vhd small2.vhd --key-file k1
check_out 64 "$U" query -S small2.vhd # the room stays
check_status 0 "$U" create -n fixed.vhd --size 4M -r
"$U" write fixed.vhd --offset 1 <<<fixed || fail "write"
check_status 0 "$U" copy fixed.vhd fixed2.vhd
check_status 0 "$U" compare fixed.vhd fixed2.vhd
grep -q fixed <("$U" info fixed2.vhd) || fail "fixed became another"
check_status 95 "$U" copy fixed.vhd fixed3.vhd -k k1

# encrypted; again with another key, from standard input; decrypted; as it is
check_status 0 "$U" copy -n leaf.vhd -N enc.vhd -k k1 --json
cp "$T/.out" json && check_schema json
check_out "" "$U" key -c -n enc.vhd -k k1
check_status 0 "$U" compare leaf.vhd enc.vhd --key-file k1
check_status 95 "$U" compare leaf.vhd enc.vhd
"$U" convert base.vhd base1.vhd >/dev/null && check_status 0 "$U" copy base.vhd whole.vhd -E <k2
check_status 0 "$U" compare base.vhd whole.vhd --key-file k2
check_status 95 "$U" copy whole.vhd re.vhd -k k1
check_err source-key-file
check_status 22 "$U" copy whole.vhd re.vhd -k k1 --source-key-file k1
check_status 0 "$U" copy whole.vhd re.vhd -E --source-key-file k2 <k1
check_status 0 "$U" compare base.vhd re.vhd --key-file k1
check_status 0 "$U" copy re.vhd clear.vhd --source-key-file k1
check_out none "$U" key -p clear.vhd
check_status 0 "$U" compare base.vhd clear.vhd
check_status 0 "$U" copy whole.vhd same.vhd
[ "$("$U" key -p same.vhd)" = "$("$U" key -p whole.vhd)" ] || fail "another key hash"
check_status 0 "$U" copy whole.vhd same2.vhd -k k2
check_status 0 "$U" compare base.vhd same2.vhd --key-file k2
for f in re same same2 whole; do check_out "$f.vhd is valid" "$U" check -b $f.vhd; done
! grep -qaF "$(head -c 100 data | tr -d '\0\n' | head -c 20)" re.vhd || fail "clear text"
# over encrypted parents the key stays theirs
check_status 0 "$U" snapshot -n child.vhd -p whole.vhd
echo child | "$U" write child.vhd --offset 0 --key-file k2 || fail "write"
check_status 0 "$U" copy child.vhd child2.vhd
check_status 0 "$U" compare child.vhd child2.vhd --key-file k2
check_status 22 "$U" copy child.vhd no.vhd -k k1 --source-key-file k2
check_status 22 "$U" copy child.vhd no.vhd --source-key-file k2
check_err "whole chain"
[ ! -e no.vhd ] || fail "something was made"

# targets, wrong use, nothing half-made
check_status 17 "$U" copy base.vhd mid.vhd
check_status 0 "$U" copy leaf.vhd leaf.copy.vhd --force
: >empty.vhd && check_status 0 "$U" copy leaf.vhd empty.vhd
check_status 0 "$U" compare leaf.vhd empty.vhd
check_out "would copy 'leaf.vhd' to 'dry.vhd', encrypted" "$U" copy leaf.vhd dry.vhd -k k1 --dry-run
[ ! -e dry.vhd ] || fail "a dry run made something"
for args in "leaf.vhd" "-n leaf.vhd" "-N x.vhd" "leaf.vhd x.vhd y.vhd" "leaf.vhd x.vhd -k k1 -E" \
	"leaf.vhd x.vhd -k - --source-key-file -" "leaf.vhd x.vhd -k data" "leaf.vhd x.vhd --source-key-file k1"; do
	# shellcheck disable=SC2086
	check_status 22 "$U" copy $args </dev/null
done
check_status 2 "$U" copy absent.vhd x.vhd
check_status 117 "$U" copy want.raw x.vhd
check_status 2 "$U" copy leaf.vhd absent/x.vhd
[ ! -e x.vhd ] || fail "something was made"
mkdir full
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=1M none full 2>/dev/null; then
	at_exit "umount '$T/full' 2>/dev/null"
	check_status 28 "$U" copy base.vhd full/x.vhd
	[ -z "$(ls -A full)" ] || fail "left behind: $(ls -A full)"
fi
# a device: old contents do not show, an image that is there goes when it is told to
truncate -s 80M device.img
if [ "$(id -u)" = 0 ] && node=$(losetup -f --show device.img 2>/dev/null); then
	at_exit "losetup -d $node"
	head -c 80M /dev/urandom >"$node" 2>/dev/null
	check_status 0 "$U" copy base.vhd "$node"
	check_status 0 "$U" compare base.vhd "$node"
	check_out "$node is valid" "$U" check -b "$node"
	check_status 0 "$U" copy small.vhd "$node" --force -k k1
	check_status 0 "$U" compare small.vhd "$node" --key-file k1
fi
"$U" copy mid.vhd x.vhd & # Ctrl-C: whole or not there
victim=$!
kill -INT $victim 2>/dev/null
wait $victim
[ ! -e x.vhd ] || "$U" compare mid.vhd x.vhd || fail "half a copy"
[ -z "$(find . -name '.x.vhd*')" ] || fail "a temporary file"
exit 0
