#!/bin/bash
# parent-root: where parents may be, by option, environment or default; what is written needs more
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1
mkdir lib vm other
"$U" create -n lib/base.vhd -s 4 && echo base | "$U" write lib/base.vhd --offset 0 &&
	"$U" snapshot -n vm/leaf.vhd -p lib/base.vhd && echo leaf | "$U" write vm/leaf.vhd --offset 512 || fail "make"
head -c 4194304 /dev/urandom >lib/disk.raw
"$U" snapshot -n vm/raw.vhd -p lib/disk.raw -m || fail "raw"
cp vm/leaf.vhd keep.vhd

reads() { check_out base "$U" read -R 0 -c 4 vm/leaf.vhd "$@"; }
denied() {
	check_status 13 "$U" "$@"
	check_err "outside the allowed directories.*--parent-root DIR"
}
# VHD parents are read wherever they are, until a root is given
reads
reads --parent-root lib
reads --parent-root other --parent-root lib
reads --parent-root / --parent-root other
reads --parent-root "$T/vm/../lib/"
for root in other vm lib/base.vhd nowhere; do denied read -R 0 -c 4 vm/leaf.vhd --parent-root $root; done
check_status 22 "$U" read -R 0 -c 4 vm/leaf.vhd --parent-root ''
check_status 22 "$U" read -R 0 -c 4 vm/leaf.vhd --parent-root
# the environment counts where no option is given; several by colons; empty is none
VHD_PARENT_ROOT=lib reads
VHD_PARENT_ROOT=other:lib reads
VHD_PARENT_ROOT='' reads
VHD_PARENT_ROOT=other reads --parent-root lib
VHD_PARENT_ROOT=other denied read -R 0 -c 4 vm/leaf.vhd
VHD_PARENT_ROOT=lib denied read -R 0 -c 4 vm/leaf.vhd --parent-root other
# every command that looks for a parent obeys
for command in "query -p" "query -d" map check "check -p" "read -r 0"; do
	# shellcheck disable=SC2086
	check_status 13 "$U" $command vm/leaf.vhd --parent-root other
done
denied convert vm/leaf.vhd out.raw --parent-root other
denied compare vm/leaf.vhd lib/disk.raw --parent-root other
denied snapshot -n new.vhd -p vm/leaf.vhd --parent-root other
denied write vm/leaf.vhd --offset 0 --parent-root other </dev/null
[ ! -e out.raw ] && [ ! -e new.vhd ] || fail "something was made"
check_status 0 "$U" info vm/leaf.vhd --parent-root other
grep -q 'outside the allowed' .out || fail "info: $(cat .out)"
# what needs no parent does not mind
check_out 4 "$U" query -v vm/leaf.vhd --parent-root other

# raw parents, and what is written because an image names it: beneath the image's directory or a root
denied read -r 0 vm/raw.vhd
denied coalesce vm/raw.vhd
denied coalesce vm/leaf.vhd
denied coalesce vm/leaf.vhd --force
denied coalesce vm/leaf.vhd --dry-run
denied coalesce vm/leaf.vhd --ancestor lib/base.vhd
check_status 0 "$U" read -r 0 vm/raw.vhd --parent-root lib
cmp .out <(head -c 512 lib/disk.raw) || fail "a raw parent beneath a root"
check_status 0 "$U" coalesce vm/leaf.vhd --parent-root lib
check_out leaf "$U" read -R 512 -c 4 lib/base.vhd
VHD_PARENT_ROOT=$T/lib check_status 0 "$U" coalesce vm/leaf.vhd
cmp vm/leaf.vhd keep.vhd || fail "the child was changed"
# the image's own directory is always allowed, links out of it are not
"$U" create -n vm/near.vhd -s 4 && "$U" snapshot -n vm/child.vhd -p vm/near.vhd && echo x | "$U" write vm/child.vhd --offset 0 ||
	fail "make"
check_status 0 "$U" coalesce vm/child.vhd --parent-root other
mv vm/near.vhd lib/near.vhd && ln -s ../lib/near.vhd vm/near.vhd
denied coalesce vm/child.vhd
check_status 0 "$U" read -r 0 vm/child.vhd
denied read -r 0 vm/child.vhd --parent-root other
# and a leaf that is a link is where it points to
ln -sf vm/leaf.vhd link.vhd
check_out "$T/lib/base.vhd" "$U" query -p link.vhd
exit 0
