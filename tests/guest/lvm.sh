#!/usr/bin/env bash
# lvm - chains on real logical volumes, as storage managers have them: made, scanned, merged, resized,
# served, snapshotted by hand, interrupted; in an emulated guest
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/../serve/ctl.inc"
# shellcheck source=tests/guest/guest.inc
. "$root/tests/guest/guest.inc"
need nbdcopy
guest_begin
guest_package lvm2 libdevmapper1.02.1 libdevmapper-event1.02.1 libaio1 libblkid1 libudev1 libedit2 libbsd0 libmd0 \
	libselinux1 libpcre2-8-0 libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblz4-1 libzstd1 liblzma5 libtinfo6
guest_program "$BIN/tapdisk" "$BIN/tap-ctl" "$BIN/vhd-util" "$(command -v nbdcopy)" "$guest_cache/packages/sbin/lvm"
guest_module crc32c_generic virtio_pci virtio_blk dm_mod
for command in pvcreate vgcreate lvcreate lvextend lvremove lvchange lvs; do
	ln -s lvm "$guest_root/sbin/$command"
done
mkdir -p "$guest_root/etc/lvm" "$guest_root/run/lock/lvm"
cat >"$guest_root/etc/lvm/lvm.conf" <<'CONF'
devices { obtain_device_list_from_udev = 0 use_devicesfile = 0 }
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
global { use_lvmlockd = 0 use_lvmpolld = 0 }
CONF

guest_pack <<INIT
PATH=\$PATH:$BIN
nbdcopy=$(command -v nbdcopy)
$(cat <<'SCRIPT'
export TAPDISK_RUN_DIR=/run/td LVM_SUPPRESS_FD_WARNINGS=1
mkdir -p $TAPDISK_RUN_DIR
die() { echo "GUEST-FAIL: $*"; cat /err; tail -5 /log; poweroff -f; }
must() { "$@" >/out 2>/err || die "$*: status $?"; }
status() { # N COMMAND…
	want=$1; shift
	"$@" >/out 2>/err; got=$?
	[ $got = $want ] || die "$*: status $got instead of $want"
}
prints() { # TEXT COMMAND…
	want=$1; shift
	must "$@"
	[ "$(cat /out)" = "$want" ] || die "$*: '$(cat /out)' instead of '$want'"
}
volume() { must lvcreate -y -q -Wn -Zn -L "$2" -n "$1" sr; }
must pvcreate -q /dev/vda
must vgcreate -q sr /dev/vda
dd if=/dev/urandom of=/some bs=1M count=6 2>/dev/null
dd if=/dev/urandom of=/more bs=1M count=3 2>/dev/null
cp /some /disk
truncate -s 16M /disk

# a volume that was something else before
volume VHD-base 24M
dd if=/dev/urandom of=/dev/sr/VHD-base bs=1M count=24 2>/dev/null
must vhd-util create -n /dev/sr/VHD-base -s 16 -S 64
must vhd-util write -n /dev/sr/VHD-base --offset 0 </some
volume VHD-leaf 24M
must vhd-util snapshot -n /dev/sr/VHD-leaf -p /dev/sr/VHD-base
prints /dev/sr/VHD-base vhd-util query -n /dev/sr/VHD-leaf -p
must vhd-util write -n /dev/sr/VHD-leaf --offset 1000000 </more
dd if=/more of=/disk bs=1000000 seek=1 conv=notrunc 2>/dev/null
must vhd-util convert /dev/sr/VHD-leaf /got
must cmp /got /disk
must vhd-util check -n /dev/sr/VHD-leaf -p -b

# all of a group: as scripts ask for them
volume other 4M
prints 'vhd=VHD-base capacity=16777216 size=25165824 hidden=0 parent=none
vhd=VHD-leaf capacity=16777216 size=25165824 hidden=0 parent=VHD-base' vhd-util scan -f -l sr -m 'VHD-*'
prints 'vhd=VHD-base capacity=16777216 size=25165824 hidden=0 parent=none
   vhd=VHD-leaf capacity=16777216 size=25165824 hidden=0 parent=VHD-base' vhd-util scan -p -l sr -m 'VHD-*'
must vhd-util scan --json -l sr -m 'VHD-*'
status 2 vhd-util scan -l nogroup
must lvchange -an sr/VHD-base
status 2 vhd-util convert /dev/sr/VHD-leaf /never
prints 16 vhd-util query -n /dev/sr/VHD-leaf -v
must vhd-util scan -f -c -l sr -m 'VHD-*'
must lvchange -ay sr/VHD-base

# a volume that is full, enlarged, and its footer moved to its end; a disk enlarged
volume VHD-small 4M
must vhd-util snapshot -n /dev/sr/VHD-small -p /dev/sr/VHD-leaf
status 28 vhd-util write -n /dev/sr/VHD-small --offset 5000000 </some
must vhd-util check -n /dev/sr/VHD-small -p
must lvextend -q -L 28M sr/VHD-small
must vhd-util modify -n /dev/sr/VHD-small -s $((28 << 20))
must vhd-util write -n /dev/sr/VHD-small --offset 5000000 </some
dd if=/some of=/disk bs=1000000 seek=5 conv=notrunc 2>/dev/null
must vhd-util resize -n /dev/sr/VHD-small -s 20
truncate -s 20M /disk
must vhd-util convert /dev/sr/VHD-small /got --force
must cmp /got /disk

# served, written, snapshotted as scripts do it
volume VHD-top 28M
must tap-ctl create -a vhd:/dev/sr/VHD-small
minor=$(sed 's/.*tapdisk-//' /out)
pid=$(tap-ctl list -m $minor | sed 's/pid=\([0-9]*\).*/\1/')
uri="nbd+unix:///?socket=$TAPDISK_RUN_DIR/nbd$pid.$minor"
status 16 vhd-util write -n /dev/sr/VHD-small --offset 0 </more
must $nbdcopy --flush /disk "$uri"
must tap-ctl pause -p $pid -m $minor
must vhd-util snapshot -n /dev/sr/VHD-top -p /dev/sr/VHD-small
must tap-ctl unpause -p $pid -m $minor -a vhd:/dev/sr/VHD-top
dd if=/more of=/disk bs=1M seek=12 conv=notrunc 2>/dev/null
must $nbdcopy --flush /disk "$uri"
# an inner one merged, interrupted, finished, below the running disk
vhd-util coalesce -n /dev/sr/VHD-leaf >/dev/null 2>&1 & usleep 30000; kill -9 $! 2>/dev/null; wait $!
ls $TAPDISK_RUN_DIR
must vhd-util coalesce -n /dev/sr/VHD-leaf
must vhd-util modify -n /dev/sr/VHD-small -p /dev/sr/VHD-base
must tap-ctl pause -p $pid -m $minor
must lvremove -q -y sr/VHD-leaf
must tap-ctl unpause -p $pid -m $minor
must $nbdcopy "$uri" /got
must cmp /got /disk
must tap-ctl destroy -p $pid -m $minor
prints 'chain depth: 3' vhd-util query -n /dev/sr/VHD-top -d
must vhd-util check -n /dev/sr/VHD-top -p -b
must vhd-util convert /dev/sr/VHD-top /got --force
must cmp /got /disk

# mended and put in order, where no file can become shorter
dd if=/dev/zero of=/dev/sr/VHD-top bs=512 count=1 conv=notrunc 2>/dev/null
status 117 vhd-util check -n /dev/sr/VHD-top
must vhd-util repair -n /dev/sr/VHD-top
must vhd-util compact /dev/sr/VHD-small
must vhd-util optimize /dev/sr/VHD-small
must vhd-util resize -n /dev/sr/VHD-top -s 18 --cut-data
truncate -s 18M /disk
must vhd-util convert /dev/sr/VHD-top /got --force
must cmp /got /disk
must vhd-util modify -n /dev/sr/VHD-top -z
must vhd-util check -n /dev/sr/VHD-top -p -b
echo GUEST-OK
SCRIPT
)
INIT
truncate -s 256M disk.raw
guest_run 768 -drive file=disk.raw,format=raw,if=virtio
grep -q GUEST-OK console || fail "the guest: $(tail -25 console)"
exit 0
