#!/bin/bash
# files: what is no image, and what cannot be written: every command says so in one line and
# leaves everything as it was
. "$(dirname "$0")/../lib/cli.sh"
. "$(dirname "$0")/vectors.inc"
U=$BIN/vhd-util
cd "$T" || exit 1
make_v2 v2.vhd
make_v3 v3.vhd

# refuses STATUSES ARGS…: ends soon with one of the statuses (separated by |), one line on stderr
# that names a file, nothing on stdout
refuses() {
	local want=$1 got=0
	shift
	timeout 10 "$U" "$@" >"$T/.out" 2>"$T/.err" </dev/null || got=$?
	[[ $got =~ ^($want)$ ]] || fail "$*: status $got instead of $want: $(cat "$T/.err")"
	[ "$(grep -c . "$T/.err")" = 1 ] && grep -q "^vhd-util: .*'" "$T/.err" || fail "$*: $(cat "$T/.err")"
	[ ! -s "$T/.out" ] || fail "$*: on stdout: $(head -c 200 "$T/.out")"
}
readers=("query -v" "query -s" "read -p" "read -r 0" "info" "map" "check")
changers=("set -f hidden -v 1" "write --offset 0" "coalesce")

# neither files nor devices
mkfifo fifo
mkdir directory
for file in fifo directory /dev/null; do
	for command in "${readers[@]}" "${changers[@]}"; do
		# shellcheck disable=SC2086
		refuses '22|21' $command -n "$file"
	done
	refuses '22|21' compare "$file" v2.vhd
	refuses '22|21' compare v2.vhd "$file"
	refuses '22|21' snapshot -n new.vhd -p "$file"
	refuses '22|21' snapshot -n new.vhd -m -p "$file"
done
refuses '22|21' convert directory new.raw
refuses '22|21' convert v2.vhd directory --to raw
refuses '22|17|21' create -n directory -s 4
refuses '22|17|21' create -n directory -s 4 --force
refuses 20 create -n v2.vhd/below -s 4
refuses '2|20' convert v2.vhd missing/new.raw

# too short, or nothing in it
: >empty
for bytes in 1 511 512 513 1023 1535 1536 2047 2048 2559; do
	head -c $bytes v2.vhd >short.vhd
	head -c $bytes /dev/zero >zeros.vhd
	for file in short.vhd zeros.vhd; do
		for command in "query -v" "read -p" "read -r 0" info map "${changers[@]}"; do
			# the copy of the footer, the header and the table (of 32 bytes) may still tell what the disk was
			got=0
			# shellcheck disable=SC2086
			timeout 10 "$U" $command -n $file >"$T/.out" 2>"$T/.err" </dev/null || got=$?
			case $got in
			117) ;;
			0) [ $bytes -ge 1568 ] && [ $file = short.vhd ] || fail "$command of $bytes bytes" ;;
			22) [ "$command" = coalesce ] || fail "$command: $(cat "$T/.err")" ;;
			*) fail "$command of $bytes bytes ($file): $got: $(cat "$T/.err")" ;;
			esac
		done
		check_status 117 "$U" check $file
	done
done
for command in "query -v" "read -p" "read -r 0" info map "${changers[@]}"; do
	# shellcheck disable=SC2086
	refuses 117 $command -n empty
done
[ ! -s empty ] || fail "something was written into an empty file"

# readers do not need to write, and change nothing; changers say that they may not
[ "$(id -u)" = 0 ] || skip "mounting needs root"
mkdir ro && mount -t tmpfs -o size=20m none ro 2>/dev/null || skip "mounting is not allowed here"
at_exit "umount '$T/ro'"
cp v2.vhd v3.vhd ro
before=$(cat ro/* | sha256sum)
mount -o remount,ro ro || skip "no read-only mounts"
for command in "${readers[@]}"; do
	# shellcheck disable=SC2086
	check_status 0 "$U" $command -n ro/v2.vhd
done
check_out 'ro/v3.vhd is valid' "$U" check -p -t ro/v3.vhd
check_status 0 "$U" convert ro/v3.vhd flat.raw
for command in "set -f hidden -v 1" "write --offset 0"; do
	# shellcheck disable=SC2086
	refuses 30 $command -n ro/v2.vhd
done
refuses 30 coalesce -n ro/v3.vhd
refuses 30 create -n ro/new.vhd -s 4
refuses 30 create -n ro/v2.vhd -s 4 --force
refuses 30 snapshot -n ro/new.vhd -p ro/v2.vhd
refuses 30 convert v2.vhd ro/new.raw
[ "$(cat ro/* | sha256sum)" = "$before" ] || fail "a read-only file system was changed"

# the same for who has no right to the file
if command -v setpriv >/dev/null; then
	mkdir open && cp v2.vhd v3.vhd open && cp "$U" open/util && chmod 755 . open && chmod 644 open/*.vhd
	chmod 755 open/util
	user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	if "${user[@]}" open/util --version >/dev/null 2>&1; then
		check_status 0 "${user[@]}" open/util query -v open/v2.vhd
		check_status 0 "${user[@]}" open/util map open/v3.vhd
		check_status 13 "${user[@]}" open/util set -n open/v2.vhd -f hidden -v 1
		check_status 13 "${user[@]}" open/util coalesce open/v3.vhd
		check_status 13 "${user[@]}" open/util create -n open/new.vhd -s 4
		chmod 600 open/v2.vhd
		check_status 13 "${user[@]}" open/util query -v open/v2.vhd
		check_status 13 "${user[@]}" open/util map open/v3.vhd
	fi
fi

# a full file system: 28, nothing half made, nothing lost; with room again, the same command works
mkdir full && mount -t tmpfs -o size=5m none full || skip "no tmpfs"
at_exit "cd / && umount '$T/full'"
cd full || exit 1
"$U" create -n base.vhd -s 64 && head -c 2000000 /dev/urandom | "$U" write base.vhd --offset 1M &&
	"$U" snapshot -n leaf.vhd -p base.vhd && "$U" convert leaf.vhd ../want.raw || fail "make"
head -c 100000 /dev/urandom | "$U" write leaf.vhd --offset 40M || fail "write"
"$U" convert leaf.vhd ../want.raw --force || fail "convert"
files=$(ls -A)
same() {
	check_status 0 "$U" compare leaf.vhd ../want.raw
	check_status 0 "$U" check -p leaf.vhd
	[ "$(ls -A)" = "$files" ] || fail "$1 left $(ls -A)"
}
refuses 28 create -n new.vhd -s 64 -r
same "create -r"
head -c 6000000 /dev/urandom >../random
refuses 28 convert ../random new.vhd --from raw --to fixed
same "convert to fixed"
refuses 28 convert ../random new.vhd --from raw --to dynamic
same "convert to dynamic"
refuses 28 convert ../random new.raw --from raw --to raw
same "convert to raw"
refuses 28 convert ../random new.vhd.gz --from raw
same "convert to gzip"
got=0
"$U" write leaf.vhd --offset 10M <../random 2>../err || got=$?
[ $got = 28 ] && [ "$(grep -c . ../err)" = 1 ] || fail "write: $got, $(cat ../err)"
check_status 0 "$U" check -p leaf.vhd
# what was there before is there still
"$U" convert leaf.vhd ../after.raw || fail "convert"
for range in "0 10485760" "16777216 50331648"; do
	read -r at count <<<"$range"
	cmp <(tail -c +$((at + 1)) ../want.raw | head -c "$count") \
		<(tail -c +$((at + 1)) ../after.raw | head -c "$count") || fail "a full disk lost data"
done
head -c $((8 << 20)) /dev/zero >fill 2>/dev/null # not a byte left
refuses 28 create -n new.vhd -s 64
refuses 28 snapshot -n new.vhd -p leaf.vhd
rm fill
[ "$(ls -A)" = "$files" ] || fail "left $(ls -A)"
check_status 0 "$U" query -n leaf.vhd -v
mount -o remount,size=40m "$T/full"
"$U" write leaf.vhd --offset 10M <../random || fail "with room again"
"$U" read leaf.vhd -R 10M -c 6000000 | cmp - ../random || fail "with room again: other contents"
check_status 0 "$U" coalesce leaf.vhd
exit 0
