#!/bin/bash
# create, snapshot: where they may write - existing files, links, files in use, full disks
. "$(dirname "$0")/../lib/cli.sh"
U=$BIN/vhd-util
cd "$T" || exit 1

# only_files NAME...: the directory holds these and nothing else
only_files() {
	local want
	want=$(printf '%s\n' "$@" .err .out | LC_ALL=C sort)
	[ "$(find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort)" = "$want" ] || fail "files: $(ls -A)"
}

# an existing file stays; an empty one is taken; --force replaces
echo precious >a.vhd
check_status 17 "$U" create -n a.vhd -s 10
check_err 'a.vhd.*--force'
[ "$(wc -l <.err)" = 1 ] || fail "more than one line"
[ "$(cat a.vhd)" = precious ] || fail "an existing file was touched"
check_out '' "$U" create -n a.vhd -s 10 --force
check_out 'a.vhd is valid' "$U" check a.vhd
: >empty
check_status 0 "$U" create empty -s 10
check_out 'empty is valid' "$U" check empty
only_files a.vhd empty

# what is no file
check_status 22 "$U" create . -s 10
check_status 22 "$U" create /dev/null -s 10 --force
mkfifo fifo && check_status 22 timeout 5 "$U" create fifo -s 10 --force
rm fifo empty

# what is refused leaves nothing
check_status 34 "$U" create -n x.vhd -s 17592186044415
check_status 34 "$U" create -n x.vhd -s 2088961
check_status 22 "$U" create -n x.vhd -s 0
check_status 22 "$U" create -n x.vhd -s 20 -S 10
check_status 22 "$U" create -n x.vhd -s 20 --block-size 128M
check_status 22 "$U" create -n x.vhd -s 20 --block-size 2K
only_files a.vhd
check_status 0 "$U" create -n x.vhd -s 21 -S 21
check_out 22 "$U" query -n x.vhd -v
rm x.vhd

# dry runs check all the same
check_status 0 "$U" create -n x.vhd -s 10 --dry-run
check_status 17 "$U" create -n a.vhd -s 10 --dry-run
check_status 34 "$U" create -n x.vhd -s 3000000 --dry-run
check_status 0 "$U" snapshot -n x.vhd -p a.vhd --dry-run
check_status 2 "$U" snapshot -n x.vhd -p no.vhd --dry-run
only_files a.vhd

# somebody writes to it: neither replaced nor made a parent
mkfifo hold
"$U" write a.vhd --offset 0 <hold &
exec 9>hold
sleep 0.3
check_status 16 "$U" create -n a.vhd -s 20 --force
check_err "vhd-util (pid"
check_status 16 "$U" snapshot -n c.vhd -p a.vhd
exec 9>&-
wait
rm hold
check_status 0 "$U" snapshot -n c.vhd -p a.vhd
check_status 17 "$U" snapshot -n c.vhd -p a.vhd
check_status 40 "$U" snapshot -n a.vhd -p c.vhd -e --force
only_files a.vhd c.vhd
rm c.vhd

# a full disk keeps nothing of an image that does not fit
if [ "$(id -u)" = 0 ] && mkdir full && mount -t tmpfs -o size=3m tmpfs full 2>/dev/null; then
	at_exit "umount '$T/full'"
	check_status 28 "$U" create -n full/f.vhd -s 10 -r
	check_status 28 "$U" create -n full/f.vhd -s 2088960
	[ -z "$(ls -A full)" ] || fail "a full disk keeps half of an image: $(ls -A full)"
	check_status 0 "$U" create -n full/f.vhd -s 2 -r
fi
exit 0
