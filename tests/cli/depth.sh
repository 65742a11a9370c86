#!/bin/bash
# depth: 256 images are a chain, 257 are too many, a cycle has no end: 40, soon
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need python3
cd "$T" || exit 1

"$U" create -n 1.vhd -s 2 && echo base | "$U" write 1.vhd --offset 0 || fail "create"
for i in $(seq 2 256); do
	"$U" snapshot -n "$i.vhd" -p $((i - 1)).vhd -e || fail "snapshot $i"
done
check_out 'chain depth: 256' "$U" query -d 256.vhd
check_out base "$U" read -R 0 -c 4 256.vhd
check_out '256.vhd is valid' "$U" check -p 256.vhd
check_status 0 "$U" info 256.vhd
echo leaf | "$U" write 256.vhd --offset 4096 || fail "write at the depth that is allowed"
check_status 40 "$U" snapshot -n 257.vhd -p 256.vhd
check_err '256 are the most; coalesce some first'
check_status 40 "$U" snapshot -n 257.vhd -p 256.vhd -e -l 1000 --dry-run
check_status 28 "$U" snapshot -n 257.vhd -p 254.vhd -e -l 254
check_status 0 "$U" snapshot -n other.vhd -p 255.vhd # past all that are empty
check_out 'chain depth: 2' "$U" query -d other.vhd

# one more, by hand; a parent of itself; two of each other
python3 - "$root/fixtures" <<'PY' || fail "make"
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from vhd import *
def child(name, own, parent, path):
    s = Sparse(2 * MIB, 2 * MIB, kind=4, uuid=own, parent=parent)
    s.locator(0, b"W2ru", path.encode("utf-16-le"))
    with open(name, "wb") as f:
        f.write(s.close())
A, B = b"A" * 16, b"B" * 16
child("deep.vhd", CHILD_ID, open("256.vhd", "rb").read()[-512:][68:84], ".\\256.vhd")
child("self.vhd", A, A, ".\\self.vhd")
child("one.vhd", A, B, ".\\two.vhd")
child("two.vhd", B, A, ".\\one.vhd")
PY
for image in deep.vhd self.vhd one.vhd; do
	for command in "query -d" "read -r 0" map "map --picture" "check -p" "convert" "compare" "snapshot" "write"; do
		case $command in
		convert) args=(convert "$image" out.raw) ;;
		compare) args=(compare 1.vhd "$image") ;;
		snapshot) args=(snapshot -n new.vhd -p "$image" -e) ;;
		write) args=(write "$image" --offset 0) ;;
		*) read -ra args <<<"$command $image" ;;
		esac
		check_status 40 timeout 10 "$U" "${args[@]}" </dev/null
		grep -q "$image\|\.vhd" .err .out || fail "$command does not name the image: $(cat .err)"
	done
	[ ! -e out.raw ] && [ ! -e new.vhd ] || fail "something was made of $image"
	# what concerns one image alone is answered
	check_out 2 timeout 10 "$U" query -v $image
	check_status 0 timeout 10 "$U" read -p $image
	check_status 0 timeout 10 "$U" info $image
	grep -Eq 'cycle|deep|own ancestor|longer' .out || fail "info $image tells no problem: $(cat .out)"
done
# the way out of a chain that is too deep: merging needs the image and its parent alone
check_status 0 timeout 10 "$U" coalesce 256.vhd
check_out leaf "$U" read -R 4096 -c 4 255.vhd
exit 0
