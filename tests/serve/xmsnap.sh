#!/usr/bin/env bash
# xmsnap - three disks written in turn: each group of frozen nodes is one point in time; failures at
# each step take everything back; a killed xmsnap leaves nothing paused
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
/usr/bin/python3 -c "import nbd" 2>/dev/null || skip "python3-libnbd is not installed"
dir=$(mktemp -d /dev/shm/vhd-test.XXXXXX) || skip "no /dev/shm"
at_exit "rm -rf '$dir'"
mkdir "$dir/a" "$dir/b" "$dir/c"
declare -A p s
for d in a b c; do
	vhd-util create -n "$dir/$d/$d.vhd" -s 16
	new_disk "vhd:$dir/$d/$d.vhd"
	p[$d]=$pid s[$d]=$sock
done
cat >vm.xml <<XML
<domain type='kvm'><name>three</name><devices>
 <disk type='file' device='disk'><source file='$dir/a/a.vhd'/><target dev='vda'/></disk>
 <disk type='network' device='disk'><source protocol='nbd' name='b'><host transport='unix' socket='${s[b]}'/></source><target dev='vdb'/></disk>
 <disk type='network' device='disk'><source protocol='nbd'><host transport='unix' socket='${s[c]}'/></source><target dev='vdc'/></disk>
 <disk type='file' device='cdrom'><source file='/nowhere.iso'/><target dev='hda'/><readonly/></disk>
</devices></domain>
XML
cat >writer.py <<'PY'
# number N to disk a, then b, then c, each flushed before the next
import struct, sys
import nbd
disks = []
for path in sys.argv[1:]:
    h = nbd.NBD(); h.connect_uri("nbd+unix:///?socket=" + path); disks.append(h)
n = 0
while True:
    n += 1
    for h in disks:
        h.pwrite(struct.pack(">Q", n) * 64, 4096); h.flush()
    if n == 1:
        open("written", "w").close()
PY
timeout 200 /usr/bin/python3 writer.py "${s[a]}" "${s[b]}" "${s[c]}" 2>writer.err &
writer=$!
wait_for 20 test -e written
number() { vhd-util read -n "$1" -r 8 -c 1 2>/dev/null | head -c 8 | od -An -tu8 --endian=big | tr -d ' '; }
all_running() { [ "$(tap-ctl list | grep -c 'state=0x0 ')" = 3 ]; }

xmsnap --domain-xml vm.xml --name dry --dry-run >out || fail "dry run"
[ "$(wc -l <out)" = 3 ] || fail "dry run: $(cat out)"
ls "$dir"/*/*.dry.vhd 2>/dev/null && fail "a dry run made something"
for ((i = 1; i <= 15; i++)); do
	xmsnap --domain-xml vm.xml --name "n$i" --json >out || fail "round $i: $(cat out)"
	python3 -c 'import json,sys; j=json.load(open("out")); assert j["schema"]=="xmsnap/1" and len(j["disks"])==3' ||
		fail "JSON: $(cat out)"
	x=$(number "$dir/a/a.n$i.vhd") y=$(number "$dir/b/b.n$i.vhd") z=$(number "$dir/c/c.n$i.vhd")
	{ [ "$x" -ge "$y" ] && [ "$y" -ge "$z" ] && [ $((x - z)) -le 1 ]; } ||
		fail "round $i is no point in time: $x $y $z"
	[ "$x" -gt 0 ] || fail "nothing was written before round $i"
done
kill -0 $writer || fail "the writer saw an error: $(cat writer.err)"

# nothing is made twice; a failure at the last disk takes the first ones back
before=$(ls "$dir"/*)
check_status 17 xmsnap --domain-xml vm.xml --name n1
: >"$dir/c/c.x.vhd"
check_status 17 xmsnap --domain-xml vm.xml --name x
rm "$dir/c/c.x.vhd"
[ "$(ls "$dir"/*)" = "$before" ] || fail "something is left: $(ls "$dir"/*)"
all_running || fail "not all run: $(tap-ctl list)"
if [ "$(id -u)" = 0 ] && mount --bind "$dir/c" "$dir/c" 2>/dev/null; then
	at_exit "umount -l '$dir/c' 2>/dev/null"
	mount -o remount,ro,bind "$dir/c"
	check_status 30 xmsnap --domain-xml vm.xml --name ro --timeout 2
	umount -l "$dir/c"
	[ "$(ls "$dir"/*)" = "$before" ] || fail "read-only: something is left"
	wait_for 30 all_running # by its lease
fi

# killed at random moments: every disk goes on, chains are whole
for ((i = 1; i <= 15; i++)); do
	xmsnap --domain-xml vm.xml --name "k$i" >/dev/null 2>&1 &
	victim=$!
	sleep "0.0$((RANDOM % 6))"
	kill -9 $victim 2>/dev/null
	wait $victim 2>/dev/null
	wait_for 20 all_running
done
kill -0 $writer || fail "the writer saw an error: $(cat writer.err)"

# what cannot be taken is told before anything happens
sed "s#$dir/a/a.vhd#$dir/none.vhd#" vm.xml >bad.xml
check_status 19 xmsnap --domain-xml bad.xml
check_err 'no running tapdisk'
echo '<a>' >bad.xml
check_status 22 xmsnap --domain-xml bad.xml
check_status 22 xmsnap
check_status 2 xmsnap --domain-xml none.xml
# the historic call
xmsnap three "$dir/a/a.vhd" --name old >/dev/null || fail "xmsnap VM FILE"
[ -e "$dir/a/a.old.vhd" ] && [ ! -e "$dir/b/b.old.vhd" ] || fail "xmsnap VM FILE took the wrong disks"
kill $writer
wait $writer 2>/dev/null
for d in a b c; do
	kill "${p[$d]}"
	wait_for 10 gone "${p[$d]}"
	vhd-util check "$dir/$d/$d.vhd" --parents >checked || fail "$d: $(cat checked)"
done
exit 0
