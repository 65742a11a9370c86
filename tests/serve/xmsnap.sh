#!/usr/bin/env bash
# xmsnap - three disks written in turn: each group of frozen nodes is one point in time; failures at
# each step take everything back; a killed xmsnap leaves nothing paused
# shellcheck source=tests/serve/three.inc
. "$(dirname "$0")/three.inc"
start_writer

xmsnap --domain-xml vm.xml --name dry --dry-run >out || fail "dry run"
[ "$(wc -l <out)" = 3 ] || fail "dry run: $(cat out)"
ls "$dir"/*/*.dry.vhd 2>/dev/null && fail "a dry run made something"
for ((i = 1; i <= 15; i++)); do
	xmsnap --domain-xml vm.xml --name "n$i" --json >out || fail "round $i: $(cat out)"
	python3 -c 'import json,sys; j=json.load(open("out")); assert j["schema"]=="xmsnap/1" and len(j["disks"])==3' ||
		fail "JSON: $(cat out)"
	cp out "told-$i"
	one_point "n$i"
done
writer_lives
check_schema told-*

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
	all_running || fail "read-only: it is known before anything is paused"
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
writer_lives

# what cannot be taken is told before anything happens
sed "s#$dir/a/a.vhd#$dir/none.vhd#" vm.xml >bad.xml
check_status 19 xmsnap --domain-xml bad.xml
check_err 'no running tapdisk'
# each of them is told; the status is that of the first
vhd-util create -n "$dir/raw.vhd" -s 1 -r
new_disk "aio:$dir/raw.vhd"
cat >bad.xml <<XML
<domain><name>bad</name><devices>
 <disk type='file'><source file='$dir/raw.vhd'/><target dev='d1'/></disk>
 <disk type='file'><source file='$dir/nobody.vhd'/><target dev='d2'/></disk>
 <disk type='file'><source file='$dir/b/b.vhd'/><target dev='d3'/><shareable/></disk>
 <disk type='file'><source file='$dir/b/b.vhd'/><target dev='d4'/><transient/></disk>
 <disk type='network'><source protocol='rbd' name='x'/><target dev='d5'/></disk>
 <disk type='file'><source file='$dir/c/c.vhd'/><target dev='d6'/></disk>
 <disk type='network'><source protocol='nbd'><host transport='unix' socket='${s[c]}'/></source><target dev='d7'/></disk>
 <disk type='file'><source file='$dir/ro.vhd'/><target dev='d8'/><readonly/></disk>
</devices></domain>
XML
kept=$(leaves)
for dry in --dry-run --; do
	[ $dry = -- ] && dry=
	# shellcheck disable=SC2086
	check_status 95 xmsnap --domain-xml bad.xml --json $dry
	for d in d1 d2 d3 d4 d5 d7; do check_err "disk '$d'"; done
	! grep -q "disk 'd6' (" "$T/.err" || fail "d6 is fine"
	python3 - "$T/.out" <<'PY' || fail "JSON: $(cat "$T/.out")"
import json, sys
j = json.load(open(sys.argv[1]))
bad = [d["target"] for d in j["disks"] if d["problem"]]
assert bad == ["d1", "d2", "d3", "d4", "d5", "d7"], bad
assert [d["target"] for d in j["left_out"]] == ["d8"] and j["status"] == 95
PY
done
same_leaves || fail "something was made: $(leaves)"
end_disk

# one process with two disks: by their own sockets without a name, by one address with names only
vhd-util create -n "$dir/one.vhd" -s 4
vhd-util create -n "$dir/two.vhd" -s 4
chmod 0640 "$dir/two.vhd"
ln -s two.vhd "$dir/link.vhd"
port=$((20000 + RANDOM % 20000))
mkdir -m 700 "$T/other"
(cd "$dir" && exec env TAPDISK_RUN_DIR="$T/other" tapdisk vhd:one.vhd vhd:link.vhd --nbd unix:two.sock --nbd tcp:127.0.0.1:$port) 2>tapdisk.err &
pids+=($!)
wait_for 10 test -S "$dir/two.sock"
domain() { # domain NAME-ATTRIBUTE HOST
	echo "<domain><devices><disk type='network'><source protocol='nbd' $1><host $2/></source><target dev='v'/></disk></devices></domain>" >two.xml
}
two() { xmsnap --run-dir "$T/run" --run-dir "$T/other" --domain-xml two.xml "$@"; }
domain "name='link'" "transport='unix' socket='$dir/two.sock'"
check_status 19 xmsnap --domain-xml two.xml --name p # not in this run directory
two --name p >out || fail "a second run directory: $(cat tapdisk.err)"
[ "$(cat out)" = "$dir/two.vhd -> $dir/two.p.vhd" ] || fail "through a link: $(cat out)"
[ -L "$dir/link.vhd" ] && [ "$(stat -c %a "$dir/two.vhd")" = 640 ] || fail "the link or the mode was lost"
domain "name='one'" "name='localhost' port='$port'"
two --name q >out || fail "by TCP"
[ -e "$dir/one.q.vhd" ] || fail "by TCP: $(cat out)"
domain "" "name='127.0.0.1' port='$port'"
check_status 95 two --name r
check_err 'names none of them'

# somebody else's pause is left alone
tap-ctl pause -p "${p[b]}" -m 1
check_status 16 xmsnap --domain-xml vm.xml --name pause
check_err 'paused'
tap-ctl unpause -p "${p[b]}" -m 1
all_running || fail "not all run"

# virsh is asked for the XML; without it there is a way out
mkdir fake
printf '#!/bin/sh\n[ "$*" = "dumpxml -- three" ] && cat "%s"\n' "$T/vm.xml" >fake/virsh
chmod +x fake/virsh
PATH=$T/fake:$PATH xmsnap three --name virsh >out || fail "by virsh"
one_point virsh
check_status 2 env PATH="$T/fake:$PATH" xmsnap four
command -v virsh >/dev/null || {
	check_status 2 xmsnap three
	check_err 'domain-xml'
}
# the real one, with a machine that it only keeps in mind
if command -v virsh >/dev/null && virsh -c test:///default list >/dev/null 2>&1; then
	{
		echo '<node>'
		sed "s/type='kvm'/type='test'/; s#</name>#&<memory>65536</memory><os><type>hvm</type></os>#" vm.xml
		echo '</node>'
	} >node.xml
	export LIBVIRT_DEFAULT_URI=test://$T/node.xml
	xmsnap three --name real >out || fail "by the real virsh"
	one_point real
	check_status 2 xmsnap four
	check_err "'four'"
	unset LIBVIRT_DEFAULT_URI
else
	[ "${CI:-}" != true ] || fail "virsh is not installed"
	echo "SKIP: no virsh: asked for the XML by a stand-in only"
fi
check_status 22 xmsnap three --domain-xml vm.xml
check_status 22 xmsnap three --name a/b
check_status 22 xmsnap three --timeout 0

echo '<a>' >bad.xml
check_status 22 xmsnap --domain-xml bad.xml
check_status 22 xmsnap
check_status 2 xmsnap --domain-xml none.xml
# the historic call
(cd "$dir/a" && xmsnap three a.vhd --name old) >/dev/null || fail "xmsnap VM FILE"
[ -e "$dir/a/a.old.vhd" ] && [ ! -e "$dir/b/b.old.vhd" ] || fail "xmsnap VM FILE took the wrong disks"
stop_all
exit 0
