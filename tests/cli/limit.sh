#!/bin/bash
# limit: what is beyond 2040 GiB is refused, 34, before anything is made, with the reason and a way out
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1
most=2190433320960
refused() {
	check_status 34 "$@"
	check_err '2040 GiB'
	check_err 'VHDX or qcow2'
	[ "$(wc -l <"$T/.err")" = 1 ] && [ ! -s "$T/.out" ] || fail "$*: more than one line: $(cat "$T/.err" "$T/.out")"
	[ ! -e x.vhd ] || fail "$*: something was made"
}
truncate -s 3T huge.raw 2>/dev/null || skip "no file of 3 TiB here"
check_status 0 "$U" create -n small.vhd --size 1M
refused "$U" create -n x.vhd --size 3T
refused "$U" create -n x.vhd --size $((most + 512))
refused "$U" create -n x.vhd -s 2088962
refused "$U" create -n x.vhd --size 3T --fixed
refused "$U" create -n x.vhd --size 10G --max-size 3T
refused "$U" create -n x.vhd --size 3T --dry-run
refused "$U" snapshot -n x.vhd -p huge.raw -m
refused "$U" snapshot -n x.vhd -p small.vhd --size 3T
refused "$U" snapshot -n x.vhd -p small.vhd -e -S 3000000
refused "$U" convert huge.raw x.vhd
refused "$U" convert huge.raw x.vhd --to fixed
refused "$U" convert huge.raw - --to fixed
refused "$U" convert huge.raw x.vhd --for hyperv
[ ! -x "$BIN/td-util" ] || refused "$BIN/td-util" create vhd 3000000 x.vhd
if "$U" --help | grep -q '^  resize '; then
	cp small.vhd before.vhd
	for size in "--size 3T" "-s 3000000"; do
		# shellcheck disable=SC2086
		check_status 34 "$U" resize -n small.vhd $size
		check_err '2040 GiB'
		check_err 'VHDX or qcow2'
	done
	cmp small.vhd before.vhd || fail "resize changed something"
fi
# small blocks end before: larger ones are the way out
check_status 34 "$U" create -n x.vhd --size 2040G --block-size 4K
check_err "larger blocks"
[ ! -e x.vhd ] || fail "something was made"
# the limit itself is no limit
check_status 0 "$U" create -n y.vhd --size $most
check_status 0 "$U" snapshot -n z.vhd -p y.vhd -e
check_out 2088960 "$U" query -v -n z.vhd
exit 0
