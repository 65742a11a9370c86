#!/usr/bin/env bash
# guest - a Linux guest (emulated) on a served disk: mkfs, files, sync, fstrim, a snapshot meanwhile;
# fsck afterwards; TRIM gave space back
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need qemu-system-x86_64 busybox cpio e2fsck mke2fs dpkg-deb
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vhd-toolkit-guest
mkdir -p "$cache"
kernel_package() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' | head -1; }
if [ ! -e "$cache/vmlinuz" ]; then
	(
		cd "$T" || exit 1
		package=$(kernel_package)
		if [ -z "$package" ] && [ "$(id -u)" = 0 ]; then # no lists yet
			timeout 120 apt-get update -q >/dev/null 2>&1
			package=$(kernel_package)
		fi
		[ -n "$package" ] || exit 1
		timeout 120 apt-get download "$package-unsigned" >/dev/null 2>&1 || timeout 120 apt-get download "$package" >/dev/null 2>&1 || exit 1
		dpkg-deb -x linux-image-*.deb kernel || exit 1
		cp kernel/boot/vmlinuz-* "$cache/vmlinuz.tmp"
		rm -rf "$cache/modules"
		cp -r kernel/lib/modules "$cache/modules"
		mv "$cache/vmlinuz.tmp" "$cache/vmlinuz"
	) || skip "no kernel package can be had"
fi

# what the guest has: busybox, mke2fs, fstrim, modules
version=$(ls "$cache/modules")
root_dir=$T/initrd
mkdir -p "$root_dir"/{bin,sbin,dev,proc,sys,tmp,mnt,etc,lib/modules}
cp "$(command -v busybox)" "$root_dir/bin/busybox"
for program in mke2fs fstrim; do
	path=$(command -v $program) || skip "$program is not installed"
	cp --parents -L "$path" "$root_dir/"
	ldd "$path" | grep -oE '/[^ ]+' | while read -r library; do cp --parents -Ln "$library" "$root_dir/"; done
	rm -f "$root_dir/$program"
	ln -s "$path" "$root_dir/$program"
done
for module in crc16 crc32c_generic libcrc32c mbcache jbd2 ext4 virtio_ring virtio virtio_pci_modern_dev \
	virtio_pci_legacy_dev virtio_pci virtio_blk; do
	file=$(find "$cache/modules/$version" -name "$module.ko*" | head -1)
	[ -n "$file" ] || continue
	case $file in
	*.xz) xz -dc "$file" >"$root_dir/lib/modules/$module.ko" ;;
	*) cp "$file" "$root_dir/lib/modules/$module.ko" ;;
	esac
	echo "$module.ko" >>"$root_dir/lib/modules/load"
done
cat >"$root_dir/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
while read m; do insmod /lib/modules/$m; done </lib/modules/load
/mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt || echo GUEST-FAIL
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
/fstrim -v /mnt
cd /mnt && md5sum f* >sums && cd / && umount /mnt && echo GUEST-OK
poweroff -f
INIT
chmod +x "$root_dir/init"
(cd "$root_dir" && find . | cpio -o -H newc --quiet | gzip -1) >initrd.gz

vhd-util create -n base.vhd -s 128
vhd-util snapshot -n d.vhd -p base.vhd --empty
new_disk "vhd:$T/d.vhd"
timeout 150 qemu-system-x86_64 -accel tcg -M q35 -cpu max -m 384 -nographic -no-reboot -nodefaults \
	-serial stdio -kernel "$cache/vmlinuz" -initrd initrd.gz \
	-append "console=ttyS0 panic=-1 mitigations=off random.trust_cpu=on" \
	-blockdev "driver=nbd,node-name=n,server.type=unix,server.path=$sock,export=,discard=unmap" \
	-device virtio-blk-pci,drive=n </dev/null >console 2>&1 &
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
