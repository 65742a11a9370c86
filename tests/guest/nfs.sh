#!/usr/bin/env bash
# nfs - images on a soft NFS mount whose server goes away and comes back without the client's locks: the
# mount answers with errors, clients of the disks see none, and wait; all in an emulated guest
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/../serve/ctl.inc"
# shellcheck source=tests/guest/guest.inc
. "$root/tests/guest/guest.inc"
need nbdcopy
guest_limit=240
guest_begin
guest_package nfs-kernel-server libtirpc3 libwrap0 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libcom-err2 \
	libkrb5support0 libkeyutils1 libevent-core-2.1-7 libblkid1 libuuid1
packages=$guest_cache/packages
guest_program "$BIN/tapdisk" "$BIN/tap-ctl" "$BIN/vhd-util" "$(command -v nbdcopy)" \
	"$packages"/usr/sbin/{exportfs,rpc.mountd,rpc.nfsd}
# libcrypto is loaded when it is needed; not here
guest_module crc32c_generic nfsd nfsv4
mkdir -p "$guest_root/etc" "$guest_root/var/lib/nfs/v4recovery" "$guest_root/exp"
printf '/exp *(rw,no_root_squash,insecure,no_subtree_check,fsid=0)\n' >"$guest_root/etc/exports"
printf '127.0.0.1 localhost\n' >"$guest_root/etc/hosts"
printf 'nfs 2049/tcp\nnfs 2049/udp\n' >"$guest_root/etc/services"
printf 'hosts: files\nservices: files\nprotocols: files\n' >"$guest_root/etc/nsswitch.conf"
printf 'root:x:0:0::/:/bin/sh\n' >"$guest_root/etc/passwd"
printf 'tcp 6 TCP\nudp 17 UDP\n' >"$guest_root/etc/protocols"
printf 'tcp        tpi_cots_ord  v     inet     tcp     -       -\n' >"$guest_root/etc/netconfig"

guest_pack <<INIT
PATH=\$PATH:$BIN
nbdcopy=$(command -v nbdcopy)
packages=
$(cat <<'SCRIPT'
export TAPDISK_RUN_DIR=/run/td
mkdir -p $TAPDISK_RUN_DIR
die() { echo "GUEST-FAIL: $*"; tail -5 /log; poweroff -f; }
ip link set lo up
mount -t tmpfs t /exp
mount -t nfsd n /proc/fs/nfsd
: >/var/lib/nfs/etab; : >/var/lib/nfs/rmtab
exportfs -a || die exportfs
rpc.mountd -N 2 -N 3 -F 2>/dev/null &
sleep 1
up() { rpc.nfsd -N 3 -V 4.2 -G 10 -L 10 2; }
down() { rpc.nfsd 0; }
up || die nfsd
mount -t nfs4 -o vers=4.2,proto=tcp,addr=127.0.0.1,clientaddr=127.0.0.1,soft,timeo=10,retrans=1 127.0.0.1:/ /mnt ||
	die mount
dd if=/dev/urandom of=/pattern bs=1M count=24 2>/dev/null
vhd-util create -n /mnt/w.vhd -s 24 || die create
vhd-util convert /pattern /mnt/r.vhd --to dynamic || die convert
tapdisk --name w vhd:/mnt/w.vhd --name r vhd:/mnt/r.vhd --nbd unix:/s --retry-time 150 2>/log &
server=$!
while [ ! -S /s ]; do sleep 0.2; kill -0 $server || die "no server"; done
# what the mount does to others
touch /mnt/probe
echo 3 >/proc/sys/vm/drop_caches
down
dd if=/dev/zero of=/mnt/probe bs=4k count=1 conv=fsync 2>/dev/null && die "the mount knows no errors"
$nbdcopy --flush /pattern "nbd+unix:///w?socket=/s" & writing=$!
$nbdcopy "nbd+unix:///r?socket=/s" /back & reading=$!
i=0
while [ $(grep -c 'what=stalled' /log) -lt 2 ]; do
	sleep 1; i=$((i + 1)); [ $i -lt 60 ] || die "nothing is tried again"
done
kill -0 $writing || die "writes did not wait"
kill -0 $reading || die "reads did not wait"
up || die "nfsd again"
wait $writing || die "writing through the outage"
wait $reading || die "reading through the outage"
cmp /pattern /back || die "other bytes"
kill $server
wait $server || die "the server ended with $?"
sleep 1
umount /mnt
vhd-util check /exp/w.vhd -b && vhd-util compare /exp/w.vhd /pattern && echo GUEST-OK
SCRIPT
)
INIT
guest_run 768
grep -q GUEST-OK console || fail "the guest: $(tail -25 console)"
exit 0
