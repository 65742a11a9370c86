#!/bin/bash
# td-util: the operations of vhd-util with a type before; raw disks as type aio
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
D=$BIN/td-util
cd "$T" || exit 1

check_status 0 "$D" --help
for c in create snapshot query set; do
	"$D" --help | grep -q "^  $c " || fail "--help does not list $c"
	check_status 0 "$D" $c --help
	check_status 22 "$D" $c --no-such-option
	check_status 22 "$D" $c
	check_status 22 "$D" $c qcow2 a b c
done
check_status 22 "$D" coalesce vhd a
for s in bash zsh fish; do "$D" --completions $s | grep -q unresolved || fail "completions: $s"; done

# create: MiB, rounded as by vhd-util; silent
check_out '' "$D" create vhd 9 base.vhd
check_out 10 "$U" query -n base.vhd -v
check_status 17 "$D" create vhd 9 base.vhd
check_status 22 "$D" create vhd 9x other.vhd
check_status 22 "$D" create vhd other.vhd
check_status 22 "$D" create vhd 9 other.vhd more
[ ! -e other.vhd ] || fail "made in spite of an error"
check_status 34 "$D" create vhd 3000000 other.vhd
check_out '' "$D" create vhd -r 4 fixed.vhd
[ "$("$U" query -n fixed.vhd -s)" = $(((4 << 20) + 512)) ] || fail "no fixed disk"
check_status 0 "$D" create vhd 8 dry.vhd --dry-run
[ ! -e dry.vhd ] || fail "--dry-run made a file"

# snapshot: child first; the parent relative to the working directory
head -c 5000 /dev/urandom | "$U" write base.vhd --offset 0
mkdir sub
check_out '' "$D" snapshot vhd child.vhd base.vhd
check_out "$(pwd -P)/base.vhd" "$D" query vhd -p child.vhd
(cd sub && check_out '' "$D" snapshot vhd in.vhd ../child.vhd) || exit 1
check_out "$(pwd -P)/base.vhd" "$D" query vhd -p sub/in.vhd # an empty parent is linked past
check_status 2 "$D" snapshot vhd orphan.vhd missing.vhd
[ ! -e orphan.vhd ] || fail "an orphan was made"
check_status 22 "$D" snapshot vhd orphan.vhd
check_status 22 "$D" snapshot vhd a.vhd base.vhd c
head -c 2M /dev/zero >raw.img
check_out '' "$D" snapshot vhd -m over.vhd raw.img
check_out "$(pwd -P)/raw.img" "$D" query vhd -p over.vhd
check_status 95 "$D" snapshot aio child.img raw.img

# query: each answer as vhd-util's, the image last
for o in -v -s -p -f -m -d -a -S -u; do
	check_out "$("$U" query -n child.vhd $o)" "$D" query vhd $o child.vhd
done
check_out "$("$U" query -n child.vhd -v -f -p)" "$D" query vhd -p -f -v child.vhd
check_out 'base.vhd has no parent' "$D" query vhd -p base.vhd
check_status 22 "$D" query vhd child.vhd
check_status 2 "$D" query vhd -v missing.vhd
# -b: the copy at the front, whatever stands at the end
"$U" set -n child.vhd -f hidden -v 0
cp child.vhd torn.vhd
printf '\377' | dd of=torn.vhd bs=1 seek=$(($(stat -c %s torn.vhd) - 512 + 85)) conv=notrunc status=none
check_out 10 "$D" query vhd -b -v torn.vhd

# set: field, value, image; or the image first
check_out '' "$D" set vhd hidden 1 base.vhd
check_out 'hidden: 1' "$D" query vhd -f base.vhd
check_out '' "$D" set vhd base.vhd hidden 0
check_out 'hidden: 0' "$D" query vhd -f base.vhd
check_out '' "$D" set vhd marker 5 base.vhd
check_out 'marker: 5' "$D" query vhd -m base.vhd
check_status 22 "$D" set vhd colour 1 base.vhd
check_status 22 "$D" set vhd hidden 256 base.vhd
check_status 22 "$D" set vhd hidden base.vhd
check_status 95 "$D" set aio hidden 1 raw.img
check_status 0 "$D" set vhd hidden 1 base.vhd --dry-run
check_out 'hidden: 0' "$D" query vhd -f base.vhd

# raw disks
check_out '' "$D" create aio 3 new.img
[ "$(stat -c %s new.img)" = $((3 << 20)) ] || fail "size of a raw disk"
[ "$(stat -c %b new.img)" -lt 100 ] || fail "a raw disk is not sparse"
check_out '' "$D" create aio -r 3 full.img
[ "$(($(stat -c %b full.img) * 512))" -ge $((3 << 20)) ] || fail "-r reserves nothing"
check_status 17 "$D" create aio 3 new.img
check_status 0 "$D" create aio 5 new.img --force
check_out 5 "$D" query aio -v new.img
check_out "5
5242880
new.img has no parent
hidden: 0" "$D" query aio -v -s -p -f new.img
check_status 95 "$D" query aio -d new.img
check_status 22 "$D" query aio new.img
check_status 2 "$D" query aio -v missing.img
check_status 22 "$D" query aio -v sub
exit 0
