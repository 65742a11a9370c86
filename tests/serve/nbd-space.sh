#!/usr/bin/env bash
# nbd-space - what is trimmed and zeroed gives its space back, and nothing else is lost; odd pieces under
# verifying load; what is served is what the image holds
# shellcheck source=tests/serve/nbd.inc
. "$(dirname "$0")/nbd.inc"
need qemu-io nbdcopy fio python3
vhd-util create -n d.vhd -s 256 || fail "create"
serve s --name d vhd:d.vhd
uri=$(served s d)

# patterns, at odd places too, over holes and data and the borders of blocks
io 'write -P 1 0 64k' 'write -P 2 100 1' 'read -P 1 0 100' 'read -P 2 100 1' 'read -P 1 101 65435' \
	'write -P 3 2097100 105' 'read -P 3 2097100 105' 'read -P 0 2097205 1000' 'read -P 0 2090000 7100' \
	'write -P 4 4M 4M' 'write -z 5000000 333333' 'read -P 4 4M 805696' 'read -P 0 5000000 333333' \
	'read -P 4 5333333 1000000' 'write -z -u 6M 1M' 'read -P 0 6M 1M' 'discard 4M 1M' 'write -P 5 4M 1M' \
	'read -P 5 4M 805696' 'write -f -P 6 268435455 1' 'read -P 6 268435455 1' 'writev -P 7 10M 512 1024 4096' \
	'readv -P 7 10M 5632' 'aio_write -P 8 12M 1M' 'aio_write -P 9 13M 1M' aio_flush 'read -P 8 12M 1M' \
	'read -P 9 13M 1M' flush

# load that verifies itself, in sizes that fit nothing
load() { # NAME OPTION…
	local name=$1
	shift
	timeout 60 fio --name="$name" --ioengine=nbd --uri="$uri" --rw=randrw --iodepth=16 --verify=crc32c \
		--verify_fatal=1 --randseed=7 --output="fio.$name" "$@" || fail "fio $name: $(tail -5 "fio.$name")"
	grep -q 'err= 0' "fio.$name" || fail "fio $name: $(cat "fio.$name")"
}
load small --bs=4k --offset=16M --size=16M
load odd --bs=3333 --offset=83886083 --size=8M

# a disk of blocks with seams, copied in and out; what comes out is what vhd-util makes of the image
/usr/bin/python3 - <<'PY' || fail "make the disk"
import random
r = random.Random(11)
with open("in.raw", "wb") as f:
    f.truncate(256 << 20)
    for _ in range(150):
        f.seek(r.randrange((256 << 20) - (1 << 20)))
        f.write(r.randbytes(r.choice((1, 511, 4096, 70000, 300000))))
PY
timeout 60 nbdcopy --connections=4 --requests=64 --flush in.raw "$uri" || fail "nbdcopy in"
timeout 60 nbdcopy --connections=4 --requests=64 "$uri" out.raw || fail "nbdcopy out"
cmp in.raw out.raw || fail "copied in and out, it differs"

# trimmed: whole blocks and pieces of them give their room back, and nothing else is lost
# (blocks are given back when the table without them is on the disk: soon after)
used() { du -k d.vhd | cut -f1; }
fell() { [ $(($1 - $(used))) -ge "$2" ]; }
io 'write -P 1 64M 64M' flush
full=$(used)
io 'discard 64M 32M' flush
wait_for 10 fell "$full" 32000
half=$(used)
io 'discard 100M 1M' flush 'read -P 1 99M 1M' 'read -P 1 101M 1M'
wait_for 10 fell "$half" 1000
piece=$(used)
io 'write -z -u 104M 8M' flush 'read -P 0 104M 8M' 'read -P 1 112M 16M'
wait_for 10 fell "$piece" 8000
io 'write -z 112M 8M' flush 'read -P 0 112M 8M'
timeout 60 nbdcopy "$uri" out.raw || fail "nbdcopy out again"
unserve s
# a note about pages between freed blocks is no fault
vhd-util check d.vhd | grep -qx 'd.vhd is valid' || fail "check: $(vhd-util check d.vhd)"
vhd-util convert --to raw d.vhd conv2.raw >/dev/null 2>.err || fail "convert"
cmp out.raw conv2.raw || fail "what was served is not what the image holds"
exit 0
