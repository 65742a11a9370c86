#!/usr/bin/env bash
# grow - a running disk becomes larger only where what is new reads as zero
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
need qemu-io python3

refused() { # STATUS IMAGE SIZE: and the disk goes on, as large as before
	local size
	size=$(nbdinfo --size "$uri")
	check_status "$1" tap-ctl resize -p "$pid" -m "$minor" --size "$3"
	[ "$(nbdinfo --size "$uri")" = "$size" ] || fail "$2 has another size"
	io 'write -P 7 1M 64k' 'read -P 7 1M 64k'
}

# a parent that is larger: its data stays hidden
vhd-util create under.vhd -s 64
head -c 4096 /dev/zero | tr '\0' u | vhd-util write under.vhd --offset 50M
vhd-util snapshot -n child.vhd -p under.vhd -S 128 && vhd-util resize -n child.vhd -s 32 --cut-data || fail "make"
new_disk "vhd:$T/child.vhd"
refused 95 child.vhd 64M
check_err 'parent is larger'
end_disk
vhd-util resize -n child.vhd -s 64 || fail "closed, it grows"
new_disk "vhd:$T/child.vhd"
io 'read -P 7 1M 64k' 'read -P 0 32M 32M'
tap-ctl resize -p "$pid" -m "$minor" --size 128M || fail "a parent of the same size is no reason"
io 'read -P 0 32M 96M'
end_disk
check_out "child.vhd is valid" vhd-util check child.vhd

# blocks that an interrupted growth left behind the end
vhd-util snapshot -n left.vhd -p under.vhd -S 128 && vhd-util resize -n left.vhd -s 32 --cut-data || fail "make"
vhd-util resize -n left.vhd -s 64 || fail "grow"
footers_say left.vhd $((32 << 20))
rm under.vhd && vhd-util create under.vhd -s 32 && vhd-util modify -n left.vhd -p under.vhd || fail "a parent that is no larger"
new_disk "vhd:$T/left.vhd"
refused 117 left.vhd 64M
check_err 'interrupted resize left it, vhd-util resize'
end_disk
vhd-util resize -n left.vhd -s 32 || fail "sweep"
new_disk "vhd:$T/left.vhd"
tap-ctl resize -p "$pid" -m "$minor" --size 64M || fail "swept, it grows"
io 'read -P 7 1M 64k' 'read -P 0 32M 32M'
end_disk
check_status 0 vhd-util check left.vhd

# encrypted: the rest of a block cannot be made zero
head -c 64 /dev/urandom >key
vhd-util create -n secret.vhd --size 33M --max-size 128M && vhd-util key -s -n secret.vhd -k key || fail "make"
pid=$(tap-ctl spawn) || fail "spawn"
pids+=("$pid")
minor=$(tap-ctl allocate) && minor=${minor##*-}
tap-ctl attach -p "$pid" -m "$minor" || fail "attach"
sock=$(tap-ctl open -p "$pid" -m "$minor" -a "vhd:$T/secret.vhd" -E <key) || fail "open"
uri="nbd+unix:///?socket=$sock"
refused 95 secret.vhd 64M
check_err 'last block is not whole'
end_disk
