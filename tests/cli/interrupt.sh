#!/bin/bash
# interrupt: Ctrl-C ends long work with 130, nothing half made stays, nothing is lost
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
dir=$T
[ ! -d /dev/shm ] || dir=$(mktemp -d /dev/shm/vhd-test.XXXXXX)
at_exit "rm -rf '$dir'"
cd "$dir" || exit 1
mkdir in out

# interrupted SIGNAL COMMAND…: ends with 130 and one line, at the first of some moments at which
# it is not done yet; 0 when it was always faster, else 130.  Its files are made by `prepare`.
interrupted() {
	local signal=$1 delay pid status
	shift
	for delay in 0.15 0.06 0.02 0.01 0.005 0.002; do
		prepare
		env --default-signal=INT,TERM,HUP "$U" "$@" >int.out 2>int.err &
		pid=$!
		until [ "$(cat /proc/$pid/comm 2>/dev/null)" = vhd-util ]; do # a copy of this shell
			kill -0 $pid 2>/dev/null || break
		done
		sleep $delay
		kill -"$signal" $pid 2>/dev/null
		wait $pid
		status=$?
		if [ $status = 130 ] && [ -s int.err ]; then
			grep -q interrupted int.err || fail "$1: $(cat int.err)"
			[ "$(grep -c . int.err)" = 1 ] || fail "$1: $(cat int.err)"
			return 130
		fi
		# before the program listens, the signal ends it as any other
		[ $status = 0 ] || [ $status -gt 128 ] || fail "$1 ends with $status: $(cat int.err)"
	done
	return 0
}
# nothing but NAME… is in the directory out
only() {
	local want
	want=$(printf '%s\n' "$@" | sort)
	[ "$(find out -mindepth 1 -printf '%f\n' | sort)" = "$want" ] ||
		fail "left behind: $(find out -mindepth 1)"
}
cuts=0

truncate -s 3G in/src.raw
for at in 0 400 900; do
	head -c 70000000 /dev/urandom | dd of=in/src.raw bs=1M seek=$at conv=notrunc status=none
done
prepare() { rm -rf out && mkdir out; }
signals=(INT TERM)
[ "$(stride 2)" = 1 ] || signals=(INT)
for to in dynamic fixed raw; do
	for signal in "${signals[@]}"; do
		interrupted $signal convert in/src.raw out/x --to $to
		[ $? = 0 ] || { cuts=$((cuts + 1)) && only ''; }
	done
done
interrupted INT convert in/src.raw out/x.vhd.gz
[ $? = 0 ] || { cuts=$((cuts + 1)) && only ''; }
# over a target that is there: the old one stays
prepare() { rm -rf out && mkdir out && echo old >out/x; }
interrupted INT convert in/src.raw out/x --to raw --force
if [ $? = 130 ]; then
	cuts=$((cuts + 1))
	only x
	[ "$(cat out/x)" = old ] || fail "what was there is gone"
fi

# the space of a fixed disk
prepare() { rm -rf out && mkdir out; }
rm -f in/room && interrupted INT create -n out/fixed.vhd -s 3000 -r
[ $? = 0 ] || only ''

# merging: the child is right at every instant, the same command finishes
"$U" convert in/src.raw in/base.vhd && "$U" snapshot -n in/child.vhd -p in/base.vhd -e || fail "make"
head -c 120000000 /dev/urandom | "$U" write in/child.vhd --offset 50M || fail "write"
rm in/src.raw
"$U" convert in/child.vhd want.raw || fail "convert"
prepare() { rm -rf out && mkdir out && cp --sparse=always in/base.vhd in/child.vhd out; }
interrupted INT coalesce out/child.vhd
if [ $? = 130 ]; then
	cuts=$((cuts + 1))
	check_status 0 "$U" compare out/child.vhd want.raw
	[ ! -s int.out ] || fail "an interrupted merge says $(cat int.out)"
	check_status 0 "$U" coalesce out/child.vhd
	check_status 0 "$U" compare out/base.vhd want.raw
	check_out 'out/base.vhd is valid' "$U" check out/base.vhd
	only base.vhd child.vhd
fi

# another parent: the image contains what it did, and the same command goes on
prepare() { rm -rf out && mkdir out && cp --sparse=always in/base.vhd in/child.vhd out && "$U" create -n out/other.vhd -s 3072; }
interrupted INT rebase out/child.vhd out/other.vhd
if [ $? = 130 ]; then
	cuts=$((cuts + 1))
	check_status 0 "$U" compare out/child.vhd want.raw
	check_status 0 "$U" rebase out/child.vhd out/other.vhd
	check_status 0 "$U" compare out/child.vhd want.raw
	only base.vhd child.vhd other.vhd
fi

# deltas and archives: nothing half made; what arrived of a delta is kept, and gone on with
prepare() { rm -rf out && mkdir out; }
interrupted INT delta create in/base.vhd in/child.vhd -o out/d.vhd
[ $? = 0 ] || { cuts=$((cuts + 1)) && only ''; }
interrupted INT export in/child.vhd -o out/x.tar
[ $? = 0 ] || { cuts=$((cuts + 1)) && only ''; }
"$U" delta create in/base.vhd in/child.vhd -o in/d.vhd || fail "delta"
interrupted INT delta apply in/d.vhd in/base.vhd out/new.vhd
if [ $? = 130 ]; then
	cuts=$((cuts + 1))
	[ ! -e out/new.vhd ] || fail "half a delta"
	check_status 0 "$U" delta apply in/d.vhd in/base.vhd out/new.vhd --resume
	check_status 0 "$U" compare out/new.vhd want.raw
	only new.vhd
fi
rm in/d.vhd
"$U" export in/child.vhd -o in/x.tar || fail "export"
interrupted INT import in/x.tar out/new
[ $? = 0 ] || { cuts=$((cuts + 1)) && only ''; }
rm in/x.tar
# whatever moves blocks: the image is whole, the same command goes on
prepare() { rm -rf out && mkdir out && cp --sparse=always in/base.vhd in/child.vhd out; }
for work in compact fill optimize "resize --size 2040G"; do
	# shellcheck disable=SC2086
	interrupted INT $work out/base.vhd
	[ $? = 130 ] || continue
	cuts=$((cuts + 1))
	only base.vhd child.vhd
	check_status 0 "$U" compare out/child.vhd want.raw
	check_status 0 "$U" check out/base.vhd
	[ "$work" = fill ] || check_status 0 "$U" $work out/base.vhd
	check_status 0 "$U" compare out/child.vhd want.raw
done

# salvaging: no target
prepare() { rm -rf out && mkdir out; }
interrupted INT salvage in/base.vhd out/x.vhd
[ $? = 0 ] || { cuts=$((cuts + 1)) && only ''; }

# readers
prepare() { :; }
interrupted INT compare in/child.vhd want.raw
[ $? = 0 ] || cuts=$((cuts + 1))
interrupted INT check -b -p in/child.vhd
[ $? = 0 ] || cuts=$((cuts + 1))
[ $cuts -ge 4 ] || fail "only $cuts of the commands could be interrupted at all"
exit 0
