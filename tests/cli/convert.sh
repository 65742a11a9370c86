#!/bin/bash
# convert and compare: every format to every other, pipes, gzip, presets, targets that exist
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
need qemu-img 7zz
cd "$T" || exit 1
truncate -s 20000256 src.raw # not a multiple of a block, but of a sector
for at in 0 3 9; do
	head -c 700000 /dev/urandom | dd of=src.raw bs=1M seek=$at conv=notrunc status=none
done
check_status 0 "$U" convert src.raw dyn.vhd
check_status 0 "$U" convert src.raw fix.vhd --to fixed
check_status 0 "$U" convert src.raw small.vhd --block-size 64K
check_status 0 "$U" convert src.raw tiny.vhd --block-size 4K
for f in dyn fix small tiny; do
	check_status 0 "$U" compare $f.vhd src.raw
	check_out "$f.vhd is valid" "$U" check $f.vhd -b
	check_status 0 "$U" convert $f.vhd back.raw --force
	cmp back.raw src.raw || fail "$f back"
done
check_status 0 7zz t -tvhd dyn.vhd
7zz x -so -tvhd dyn.vhd | cmp - src.raw || fail "7-Zip reads it differently"
"$U" snapshot -n leaf.vhd -p dyn.vhd
echo change | "$U" write leaf.vhd --offset 12345
check_status 1 "$U" compare leaf.vhd src.raw
grep -q 'byte 12345$' "$T/.out" || fail "first difference: $(cat "$T/.out")"
check_status 0 "$U" convert leaf.vhd flat.vhd
check_status 0 "$U" compare leaf.vhd flat.vhd
[ "$(stat -c %b flat.vhd)" -lt 16000 ] || fail "holes were written"

# layers that alternate in small runs: right, and no more written than there is
"$U" create -n mixed.vhd --size 8M
at=0
while [ $at -lt 3145728 ]; do
	head -c 4608 /dev/urandom | "$U" write mixed.vhd --offset $at
	at=$((at + 24576))
done
"$U" snapshot -n mixed2.vhd -p mixed.vhd
for at in 1000 50000 1048064 2097152 8388096; do
	head -c 512 /dev/zero | tr '\0' x | "$U" write mixed2.vhd --offset $at
done
for to in raw fixed dynamic; do
	check_status 0 "$U" convert mixed2.vhd mixed.$to --to $to
	check_status 0 "$U" compare mixed2.vhd mixed.$to
	[ "$(stat -c %b mixed.$to)" -lt 9600 ] || fail "mixed to $to: holes were written"
done
# equal disks, equal places
check_status 0 "$U" convert src.raw again.vhd
for f in dyn again; do "$U" map $f.vhd --json | sed 's/"filename": *"[^"]*"//g' >$f.map; done
cmp -s dyn.map again.map || fail "blocks lie elsewhere the second time"

# pipes and gzip
"$U" convert dyn.vhd - --to raw | cmp - src.raw || fail "to a pipe"
"$U" convert - p.vhd <src.raw && "$U" compare p.vhd src.raw || fail "from a pipe"
cat dyn.vhd | "$U" convert - p.raw && cmp p.raw src.raw || fail "VHD from a pipe"
cat fix.vhd | "$U" convert - q.raw && cmp q.raw src.raw || fail "fixed VHD from a pipe"
cat fix.vhd | "$U" convert - f.vhd && "$U" compare f.vhd src.raw || fail "fixed VHD from a pipe to dynamic"
head -c 20000767 fix.vhd | "$U" convert - f.raw --force && cmp f.raw src.raw || fail "a footer of 511 bytes from a pipe"
"$U" convert dyn.vhd - --to dynamic >s.vhd && "$U" compare s.vhd src.raw || fail "dynamic to a pipe"
check_out 's.vhd is valid' "$U" check s.vhd -b
[ "$(stat -c %s s.vhd)" = "$(stat -c %s dyn.vhd)" ] || fail "zeros were sent"
"$U" convert leaf.vhd - --to dynamic --block-size 16K --gzip | zcat >s16.vhd
check_status 0 "$U" compare s16.vhd leaf.vhd
check_status 0 "$U" check s16.vhd -b
(head -c 512 /dev/zero && tail -c +513 dyn.vhd) >nocopy.vhd
# in one pass: no temporary file is made, and what is written is sound for everybody
for size in 20000256 25165824 4194304 1048576 512 1000; do
	head -c $size src.raw >part.raw
	truncate -s $size part.raw
	for block in 2M 64K 4K; do
		rm -f p.vhd
		TMPDIR=$T/absent "$U" convert - p.vhd --block-size $block <part.raw || fail "pipe to dynamic"
		truncate -s $(((size + 511) / 512 * 512)) part.raw
		check_status 0 "$U" compare p.vhd part.raw
		check_out 'p.vhd is valid' "$U" check p.vhd -b
		[ $block != 2M ] || check_status 0 qemu-img compare -f vpc -F raw p.vhd part.raw
		truncate -s $size part.raw
	done
done
TMPDIR=$T/absent "$U" convert dyn.vhd - --to dynamic >/dev/null || fail "a temporary file was wanted"
for to in raw fixed; do
	TMPDIR=$T/absent "$U" convert - - --to $to <src.raw >t.$to || fail "a temporary file was wanted"
	TMPDIR=$T/absent "$U" convert - - --to $to <fix.vhd | cmp -n 20000256 - src.raw || fail "fixed through"
done
cmp t.raw src.raw && check_status 0 "$U" compare t.fixed src.raw && check_out 't.fixed is valid' "$U" check t.fixed
"$U" convert - - --to dynamic <src.raw >t.dyn && check_status 0 "$U" compare t.dyn src.raw
check_status 117 "$U" convert - - --to raw <nocopy.vhd
TMPDIR=$T/absent "$U" convert - p.raw --force <src.raw || fail "a temporary file was wanted"
check_status 0 "$U" write p.vhd --offset 100 </dev/null
# what must be seen as a whole has one; the footer at the end of a damaged VHD is not taken for data
check_status 2 env TMPDIR="$T/absent" "$U" convert - x.raw <dyn.vhd
check_status 117 "$U" convert - x.vhd <nocopy.vhd
check_err 'save it as a file'
[ ! -e x.vhd ] || fail "half a target"
check_status 22 "$U" convert - x.vhd </dev/null
"$U" convert dyn.vhd z.vhd.gz && zcat z.vhd.gz >z.vhd && "$U" compare z.vhd src.raw || fail gzip
"$U" convert z.vhd.gz z.raw && cmp z.raw src.raw || fail gunzip
head -c 100000 z.vhd.gz >cut.vhd.gz
check_status 117 "$U" convert cut.vhd.gz cut.raw
[ ! -e cut.raw ] || fail "half a target"
check_status 22 "$U" convert dyn.vhd -

# presets
check_status 0 "$U" convert src.raw azure.vhd --for azure
check_out 'azure.vhd is valid' "$U" check azure.vhd --for azure
[ $((($(stat -c %s azure.vhd) - 512) % 1048576)) = 0 ] || fail "azure: whole MiB"
check_status 117 "$U" check dyn.vhd --for azure
for p in hyperv xen vpc; do
	check_status 0 "$U" convert src.raw $p.vhd --for $p
	check_out "$p.vhd is valid" "$U" check $p.vhd
done
"$U" convert vpc.vhd vpc.raw
check_status 0 qemu-img compare -f vpc -F raw vpc.vhd vpc.raw

# devices: old contents do not show, whatever the sector
if [ "$(id -u)" = 0 ] && head -c 40M /dev/urandom >device.img; then
	loop=''
	at_exit '[ -z "$loop" ] || losetup -d "$loop"'
	for sector in 512 4096; do
		loop=$(losetup -f --show --direct-io=on -b $sector device.img 2>/dev/null) || continue
		for to in dynamic fixed pipe; do
			if [ $to = pipe ]; then
				"$U" convert - "$loop" --to dynamic <src.raw || fail "pipe to device"
			else
				check_status 0 "$U" convert src.raw "$loop" --to $to
			fi
			check_status 0 "$U" compare "$loop" src.raw
			check_out "$loop is valid" "$U" check "$loop" -b
		done
		check_status 0 "$U" convert src.raw "$loop" --to raw
		cmp -n 20000256 "$loop" src.raw || fail "raw on a device"
		losetup -d "$loop"
		loop='' # once only: the next device of that name is another test's
	done
fi

# targets
check_status 17 "$U" convert src.raw dyn.vhd
check_status 2 "$U" convert absent.raw x.vhd
check_status 22 "$U" convert src.raw x.vhd --to nonsense
: >empty.vhd
check_status 0 "$U" convert src.raw empty.vhd
for f in .*.vhd.*; do
	[ ! -e "$f" ] || fail "a temporary file stays: $f"
done
exit 0
