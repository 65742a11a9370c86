#!/bin/bash
# xen-orchestra: its library reads, flattens, merges and re-parents chains of ours, and we what it makes of them
. "$(dirname "$0")/../lib/cli.sh"
need node npm
U=$BIN/vhd-util
cd "$T" || exit 1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vhd-toolkit-node
mkdir -p "$cache"
# one install for all who test at the same time; nothing of it is run but what is asked for below
(
	exec 9>"$cache/lock"
	flock 9
	[ -e "$cache/node_modules/vhd-lib/dist/index.js" ] || (
		cd "$cache" && echo '{"name":"peer","private":true}' >package.json &&
			timeout 120 npm install --silent --no-audit --no-fund --ignore-scripts vhd-lib@0.7.2
	)
) >npm.log 2>&1 || skip "no vhd-lib from the npm registry: $(tail -1 npm.log)"
xo() { node "$root/tests/lib/orchestra.js" "$cache/node_modules" "$@"; }

head -c 60M /dev/urandom >data
piece() { # IMAGE OFFSET SKIP BYTES
	tail -c +$(($3 + 1)) data | head -c "$4" | "$U" write "$1" --offset "$2" || fail "write $1"
}
check_status 0 "$U" create -n base.vhd -s 64
piece base.vhd 0 0 60000000
check_status 0 "$U" snapshot -n middle.vhd -p base.vhd
piece middle.vhd 10485760 1000 1000448
piece middle.vhd 512 99 512
check_status 0 "$U" snapshot -n leaf.vhd -p middle.vhd
check_status 0 "$U" resize -n leaf.vhd -s 80
piece leaf.vhd 10485760 5000 1048576
piece leaf.vhd 1024 7 512
piece leaf.vhd 71303168 0 2097152
check_status 0 "$U" convert leaf.vhd want.raw

# it takes ours for sound, also after a shrink, a compact and a merge
for image in base middle leaf; do check_status 0 xo check $image.vhd; done
cp leaf.vhd small.vhd
check_status 0 "$U" resize -n small.vhd -s 64 --cut-data
check_status 0 xo check small.vhd
check_status 0 "$U" convert leaf.vhd whole.vhd
check_status 0 xo content whole.vhd whole.raw
cmp whole.raw want.raw || fail "it reads a dynamic image otherwise"

# a chain flattened
check_status 0 xo flatten leaf.vhd flat.vhd
check_status 0 "$U" compare flat.vhd want.raw
check_status 0 "$U" repair flat.vhd
check_out 'flat.vhd is valid' "$U" check -b flat.vhd

# merged by it, up from the leaf; the middle gets the leaf's size
mkdir merge move
cp base.vhd middle.vhd leaf.vhd merge
check_status 0 xo merge merge/middle.vhd merge/leaf.vhd
check_status 0 "$U" check -b merge/middle.vhd
check_status 0 "$U" compare merge/middle.vhd want.raw
check_status 0 xo merge merge/base.vhd merge/middle.vhd
check_status 0 "$U" check -b merge/base.vhd
check_status 0 "$U" compare merge/base.vhd want.raw

# another place of the parent, written by it over our batmap; then ours again
cp middle.vhd leaf.vhd move
mkdir move/elsewhere
cp base.vhd move/elsewhere/other.vhd
check_status 0 xo chain move/elsewhere/other.vhd move/middle.vhd
check_status 0 "$U" compare move/leaf.vhd want.raw
check_status 117 "$U" check move/middle.vhd # the table has moved, and its batmap stayed
check_status 0 "$U" repair move/middle.vhd
check_status 0 "$U" check -b -p move/leaf.vhd
check_status 0 "$U" coalesce -n move/middle.vhd
check_status 0 "$U" modify -n move/leaf.vhd -p move/elsewhere/other.vhd
check_status 0 "$U" compare move/leaf.vhd want.raw
mv move/elsewhere/other.vhd move/with-a-name-that-is-longer-than-before.vhd # it takes the name for a path
check_status 0 "$U" modify -n move/leaf.vhd -p move/with-a-name-that-is-longer-than-before.vhd
check_status 0 xo check move/leaf.vhd

# a delta is an image for it, too; and what it makes of a stream is the same image
check_status 0 "$U" delta create base.vhd leaf.vhd -o delta.vhd
check_status 0 xo stream delta.vhd again.vhd
check_status 0 "$U" check -b again.vhd
cp again.vhd child.vhd
check_status 0 xo chain base.vhd child.vhd
check_status 0 "$U" compare child.vhd want.raw
