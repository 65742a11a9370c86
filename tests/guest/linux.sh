#!/usr/bin/env bash
# linux - a Linux guest (emulated) on a served disk: mkfs, files, sync, fstrim, a snapshot meanwhile;
# fsck afterwards; TRIM gave space back
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/../serve/ctl.inc"
# shellcheck source=tests/guest/guest.inc
. "$root/tests/guest/guest.inc"
need e2fsck mke2fs fstrim
guest_begin
guest_program "$(command -v mke2fs)" "$(command -v fstrim)"
guest_module crc32c_generic ext4 virtio_pci virtio_blk
guest_pack <<INIT
mke2fs=$(command -v mke2fs) fstrim=$(command -v fstrim)
$(cat <<'SCRIPT'
$mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt || echo GUEST-FAIL
i=0
while [ $i -lt 12 ]; do
	dd if=/dev/urandom of=/mnt/f$i bs=64k count=40 2>/dev/null
	i=$((i + 1))
done
sync
echo GUEST-WRITTEN
sleep 2
dd if=/dev/zero of=/mnt/late bs=64k count=8 2>/dev/null
rm /mnt/f3 /mnt/f4 /mnt/f5 /mnt/f6 /mnt/f7 /mnt/f8
sync
$fstrim -v /mnt
cd /mnt && md5sum f* >sums && cd / && umount /mnt && echo GUEST-OK
SCRIPT
)
INIT

vhd-util create -n base.vhd -s 128
vhd-util snapshot -n d.vhd -p base.vhd --empty
new_disk "vhd:$T/d.vhd"
guest_run 384 \
	-blockdev "driver=nbd,node-name=n,server.type=unix,server.path=$sock,export=,discard=unmap" \
	-device virtio-blk-pci,drive=n &
guest=$!
written() { grep -qE 'GUEST-(WRITTEN|FAIL)' console; }
wait_for 120 written
tap-ctl snapshot -p "$pid" -m "$minor" --name during.vhd || fail "snapshot while the guest runs"
wait $guest || fail "the guest: $(tail -3 console)"
grep -q GUEST-OK console || fail "the guest: $(tail -15 console)"
grep -q 'bytes.*trimmed' console || fail "fstrim: $(tail -5 console)"
trims=$(tap-ctl stats -p "$pid" -m "$minor" | python3 -c 'import json,sys; print(json.load(sys.stdin)["ops"]["trim"]["count"])')
[ "$trims" -gt 0 ] || fail "no TRIM came"
end_disk
vhd-util check d.vhd --parents >checked || fail "check: $(cat checked)"
vhd-util convert d.vhd flat.raw || fail "convert"
e2fsck -fn flat.raw >fsck 2>&1 || fail "fsck: $(tail -5 fsck)"
# the frozen node is a file system as after a power cut
vhd-util convert during.vhd during.raw || fail "convert the frozen node"
e2fsck -fy during.raw >fsck 2>&1
[ $? -le 1 ] || fail "fsck of the snapshot: $(tail -5 fsck)"
exit 0
