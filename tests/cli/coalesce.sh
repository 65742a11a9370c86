#!/bin/bash
# coalesce: contents, refusals, several levels, a kill and its resumption, a full disk
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# put FILE OFFSET BYTES: random bytes through the chain
put() { head -c "$3" /dev/urandom | "$U" write "$1" --offset "$2" || fail "write $1"; }

"$U" create -n base.vhd -s 64
put base.vhd 0 5000000
"$U" snapshot -n mid.vhd -p base.vhd
put mid.vhd 3000000 4000001
"$U" snapshot -n leaf.vhd -p mid.vhd
put leaf.vhd 6000000 512
put leaf.vhd 40000000 70000
"$U" convert leaf.vhd want.raw || fail convert
mkdir aside && cp leaf.vhd aside/leaf
check_status 0 "$U" coalesce -n leaf.vhd
grep -qx 'Coalesced [0-9]* sectors' "$T/.out" || fail "the line scripts parse: $(cat "$T/.out")"
cmp leaf.vhd aside/leaf || fail "the child was changed"
check_status 0 "$U" compare mid.vhd want.raw
check_out 'mid.vhd is valid' "$U" check mid.vhd -b
[ ! -e mid.vhd.coalesce ] || fail "the note stays"

# several levels at once
check_status 0 "$U" coalesce leaf.vhd --ancestor base.vhd --json
grep -q '"levels": 2' "$T/.out" || fail "levels: $(cat "$T/.out")"
check_status 0 "$U" compare base.vhd want.raw

# another child, a parent in use, no parent
"$U" snapshot -n other.vhd -p mid.vhd
check_status 16 "$U" coalesce leaf.vhd
check_err other.vhd
check_status 0 "$U" coalesce leaf.vhd --force
rm other.vhd
check_status 22 "$U" coalesce base.vhd
(sleep 3 | "$U" write mid.vhd --offset 0) &
sleep 0.5
check_status 16 "$U" coalesce leaf.vhd
wait

# a raw parent beneath the child's directory; a raw parent elsewhere is not touched
head -c 8388608 /dev/urandom >disk.raw
cp disk.raw disk.before
"$U" snapshot -m -n r.vhd -p disk.raw
put r.vhd 1000 3000
"$U" convert r.vhd rwant.raw
check_status 0 "$U" coalesce r.vhd
cmp disk.raw rwant.raw || fail "raw parent"
mkdir in
cp disk.before out.raw
"$U" snapshot -m -n in/evil.vhd -p out.raw
check_status 13 "$U" coalesce in/evil.vhd
cmp out.raw disk.before || fail "a file outside was written"
check_status 0 "$U" snapshot -m -n in/root.vhd -p out.raw --parent-root "$T"

# a truncated child writes nothing
"$U" create -n tb.vhd -s 16
put tb.vhd 0 100000
"$U" snapshot -n tc.vhd -p tb.vhd
put tc.vhd 0 4000000
cp tb.vhd aside/tb
truncate -s 3000000 tc.vhd
check_status 117 "$U" coalesce tc.vhd
cmp tb.vhd aside/tb || fail "a truncated child was merged"

# killed at some moment: right through the child, finished by the same command
"$U" create -n kb.vhd -s 600
"$U" snapshot -n kc.vhd -p kb.vhd -e
put kc.vhd 0 500000000
"$U" convert kc.vhd kwant.raw
for delay in 0.02 0.05 0.1 0.15; do
	"$U" coalesce kc.vhd >/dev/null 2>&1 &
	pid=$!
	sleep $delay
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	check_status 0 "$U" compare kc.vhd kwant.raw
	if [ -e kb.vhd.coalesce ]; then
		check_status 16 "$U" convert kb.vhd never.raw
		check_status 16 "$U" modify -n kb.vhd -z --dry-run
		check_status 16 "$U" modify -n kb.vhd -z
		check_err 'half merged'
		check_status 0 "$U" compare kc.vhd kwant.raw
	fi
done
check_status 0 "$U" coalesce kc.vhd
check_status 0 "$U" compare kb.vhd kwant.raw
check_status 0 "$U" check kb.vhd -b
rm -f kwant.raw kc.vhd kb.vhd

# what a merge that was begun needs to be finished stays: above, and what it was merged into is no image
# of its own (a note as coalesce makes it first, before anything is written)
note() { # TARGET CHILD
	python3 - "$1" "$2" "$("$U" info "$1" --json)" "$("$U" info "$2" --json)" <<-'END'
		import json, os, sys, zlib
		target, child = (json.loads(text)["id"].replace("-", "") for text in sys.argv[3:])
		head = f"vhd-util coalesce 1\ntarget {target}\nchild {child}\nsources {0:016x}\ncursor {0:020}\nmerged {0:020}\ncheck "
		head += f"{zlib.crc32(head.encode()):08x}\n"
		open(sys.argv[1] + ".coalesce", "w").write(f"{head:511}\n{os.path.realpath(sys.argv[2])}\n")
	END
}
"$U" create -n hb.vhd -s 32 && "$U" create -n elsewhere.vhd -s 32 && put hb.vhd 0 9000000
"$U" snapshot -n hc.vhd -p hb.vhd && put hc.vhd 4000000 9000000
"$U" snapshot -n hd.vhd -p hc.vhd && put hd.vhd 7000000 90000
for image in hb hc hd; do "$U" convert $image.vhd $image.want || fail convert; done
note hb.vhd hc.vhd || fail note
for image in hc.vhd hd.vhd; do
	cp $image aside/h
	for dry in '' --dry-run; do
		check_status 16 "$U" modify -n $image -z $dry
		check_err "coalesce -n '$T/hc.vhd'"
		check_status 16 "$U" modify $image -p elsewhere.vhd $dry
		check_status 16 "$U" rebase $image elsewhere.vhd $dry
		check_status 16 "$U" rebase --unsafe $image elsewhere.vhd $dry
		check_status 16 "$U" resize $image --size 16M --cut-data $dry
	done
	cmp $image aside/h || fail "$image changed"
done
check_status 16 "$U" salvage hb.vhd saved.vhd
check_err 'half merged'
[ ! -e saved.vhd ] || fail "a mix was salvaged"
check_status 0 "$U" compare hd.vhd hd.want
check_status 0 "$U" coalesce hc.vhd
check_status 0 "$U" compare hb.vhd hc.want
check_status 0 "$U" modify -n hc.vhd -z
check_status 0 "$U" compare hd.vhd hd.want
check_status 0 "$U" rebase hd.vhd elsewhere.vhd
check_status 0 "$U" compare hd.vhd hd.want
check_status 0 "$U" salvage hb.vhd saved.vhd

# nor does --force take the place of a merge of others that can be finished; the line to type finishes it
rm -f hb.vhd hc.vhd hd.vhd
"$U" create -n hb.vhd -s 32 && put hb.vhd 0 9000000
"$U" snapshot -n hc.vhd -p hb.vhd && put hc.vhd 4000000 9000000
"$U" snapshot -n hd.vhd -p hc.vhd && put hd.vhd 7000000 90000
for image in hb hc hd; do "$U" convert $image.vhd $image.want --force || fail convert; done
note hb.vhd hd.vhd || fail note
cp hb.vhd aside/h
check_status 16 "$U" coalesce hc.vhd --force
check_err "coalesce -n '$T/hd.vhd' -a '$T/hb.vhd'"
cmp hb.vhd aside/h || fail "merged into by another"
check_status 0 "$U" coalesce -n "$T/hd.vhd" -a "$T/hb.vhd"
check_status 0 "$U" compare hb.vhd hd.want
[ ! -e hb.vhd.coalesce ] || fail "it is not finished"
"$U" snapshot -m -n hz.vhd -p hd.want || fail "over a raw disk"

# full disk
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=3m none small 2>/dev/null; then
	at_exit "umount '$T/small'"
	"$U" create -n small/b.vhd -s 16
	"$U" snapshot -n small/c.vhd -p small/b.vhd -e
	put small/c.vhd 0 1900000
	"$U" convert small/c.vhd fwant.raw
	check_status 28 "$U" coalesce small/c.vhd
	check_status 16 "$U" modify -n small/b.vhd -z
	check_status 0 "$U" compare small/c.vhd fwant.raw
	mount -o remount,size=9m "$T/small"
	check_status 0 "$U" coalesce small/c.vhd
	check_status 0 "$U" compare small/b.vhd fwant.raw
fi

# a child that is smaller than its parent hid what that has behind its end: said, and rebase keeps it hidden
rm -f under.vhd small.vhd large.vhd
"$U" create -n under.vhd -s 64 && yes | head -c 4096 | "$U" write under.vhd --offset 50M || fail make
"$U" snapshot -n small.vhd -p under.vhd -S 128 && "$U" resize -n small.vhd -s 32 --cut-data || fail make
yes no | head -c 4096 | "$U" write small.vhd --offset 0 || fail write
"$U" snapshot -n large.vhd -p small.vhd -S 128 && "$U" resize -n large.vhd -s 64 && "$U" convert large.vhd large.raw || fail make
check_status 0 "$U" coalesce small.vhd
grep -q 'warning: .*small.vhd.* ends at byte 33554432 .* use rebase' .err || fail "not said: $(cat .err)"
"$U" rebase large.vhd under.vhd && "$U" compare large.vhd large.raw || fail "rebase shows what was hidden"

# a parent without room for a larger child that has nothing there keeps its size, and that is said
"$U" create -n tight.vhd -s 16 && "$U" snapshot -n grown.vhd -p tight.vhd && "$U" resize -n grown.vhd -s 64 || fail make
yes more | head -c 9000 | "$U" write grown.vhd --offset 3M && "$U" convert grown.vhd grown.raw || fail write
check_status 0 "$U" coalesce grown.vhd
grep -q 'warning: .*tight.vhd.* stays a disk of 16777216 bytes' .err || fail "not said: $(cat .err)"
check_out 16 "$U" query -n tight.vhd -v
"$U" compare grown.vhd grown.raw || fail "the child changed"
"$U" resize tight.vhd --size 64M && "$U" compare tight.vhd grown.raw || fail "the parent, enlarged"
exit 0
