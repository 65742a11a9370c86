#!/bin/bash
# one footer missing: readers work and say so once; a writer restores it
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# warned FILE COMMAND...: succeeds, with one line that warns of FILE
warned() {
	local file=$1
	shift
	check_status 0 "$@"
	[ "$(grep -c 'warning: .*footer' .err)" = 1 ] || fail "$*: not one warning: $(cat .err)"
	grep -q "$file" .err || fail "$*: names another image: $(cat .err)"
}

"$U" create -n whole.vhd -s 4
head -c 70000 /dev/urandom | "$U" write whole.vhd --offset 1000
"$U" snapshot -n child.vhd -p whole.vhd
echo more | "$U" write child.vhd --offset 5
for place in copy end; do
	cp whole.vhd base.vhd
	cp child.vhd leaf.vhd
	for f in base.vhd leaf.vhd; do
		if [ $place = copy ]; then
			dd if=/dev/zero of=$f bs=512 count=1 conv=notrunc status=none
		else
			truncate -s -512 $f
		fi
	done
	warned base.vhd "$U" convert base.vhd $place.raw
	warned base.vhd "$U" convert base.vhd - --to raw
	warned base.vhd "$U" compare base.vhd whole.vhd
	warned base.vhd "$U" map base.vhd
	warned base.vhd "$U" compare base.vhd base.vhd
	warned base.vhd "$U" map --picture base.vhd
	warned base.vhd "$U" read base.vhd -r 0
	for what in -p "-b 0" "-B" "-a" "-e 0"; do
		# shellcheck disable=SC2086
		warned base.vhd "$U" read base.vhd $what
	done
	warned base.vhd "$U" query base.vhd -v -s -d -p
	warned base.vhd "$U" info base.vhd
	warned base.vhd "$U" info base.vhd --json
	rm -f snap.vhd
	warned base.vhd "$U" snapshot -n snap.vhd -p base.vhd
	warned base.vhd "$U" convert snap.vhd snap.raw --force
	check_status 0 "$U" compare whole.vhd $place.raw
	check_status 117 "$U" check base.vhd
	mv whole.vhd kept.vhd
	cp base.vhd whole.vhd # the parent that leaf.vhd names
	warned leaf.vhd "$U" convert leaf.vhd $place.leaf
	# a parent of the image asked about
	warned whole.vhd "$U" query child.vhd -d
	warned whole.vhd "$U" query child.vhd -p
	warned whole.vhd "$U" query child.vhd -v -d -p
	warned whole.vhd "$U" map child.vhd
	warned whole.vhd "$U" read child.vhd -r 0
	warned whole.vhd "$U" info child.vhd
	rm -f snap.vhd
	warned whole.vhd "$U" snapshot -n snap.vhd -p child.vhd
	echo more | warned whole.vhd "$U" write child.vhd --offset 5
	check_status 0 "$U" query child.vhd -v
	[ ! -s .err ] || fail "a parent that nobody asked for: $(cat .err)"
	check_status 0 "$U" compare child.vhd $place.leaf
	warned leaf.vhd "$U" coalesce leaf.vhd --force
	check_out 'whole.vhd is valid' "$U" check whole.vhd -b
	check_status 0 "$U" compare whole.vhd $place.leaf
	mv kept.vhd whole.vhd
	echo x | "$U" write base.vhd --offset 0 || fail write
	check_out 'base.vhd is valid' "$U" check base.vhd
done
exit 0
