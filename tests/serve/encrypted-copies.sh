#!/usr/bin/env bash
# encrypted-copies: images that blktap's own code encrypted (fixtures/blktap), and more made as its copy
# command does it (without us, tests/lib/encrypt-copy.py), are read, served, written and merged like our own
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
U=$BIN/vhd-util
need python3 openssl qemu-io nbdcopy xz

# by blktap itself
python3 - <<'END' || fail "model"
import hashlib
with open("made.raw", "wb") as f:
    f.truncate(8 << 20)
    for n in [*range(8), 100, 101, 102, 4095, 8191, 8192, 12288, 16383]:
        f.seek(512 * n)
        f.write((b"sector %d\n" % n * 64)[:512])
for bits in (256, 512):
    with open("made-%d" % bits, "wb") as f:
        f.write(b"".join(hashlib.sha256(b"key %d %d" % (bits, i)).digest() for i in range(bits // 256)))
END
head -c 64 /dev/urandom >other
for name in plain written-256 written-512 copied-256 copied-512; do
	image=blktap-$name.vhd
	xz -dc "$root/fixtures/blktap/$name.vhd.xz" >"$image" || fail "unpack $name"
	key=() open=()
	case $name in *-*) key=(--key-file "made-${name#*-}") open=(-E) ;; esac
	check_out "$image is valid" "$U" check -b "$image"
	check_status 0 "$U" compare "$image" made.raw "${key[@]}"
	if [ ${#key[@]} != 0 ]; then
		check_out "" "$U" key -c "$image" -k "${key[1]}"
		check_status 22 "$U" compare "$image" made.raw --key-file other
		check_status 95 "$U" compare "$image" made.raw
	fi
	cp made.raw after.raw
	qemu-io -f raw after.raw -c 'write -P 7 51300 70000' -c 'write -P 8 6M 4k' >/dev/null || fail "model"
	new_disk "vhd:$image" "${open[@]}" <"${key[1]:-/dev/null}"
	[ "$(nbdcopy "$uri" - | sha256sum)" = "$(sha256sum <made.raw)" ] || fail "$name as it is served"
	io 'write -P 7 51300 70000' 'write -P 8 6M 4k' flush
	end_disk
	check_status 0 "$U" compare "$image" after.raw "${key[@]}"
	check_out "$image is valid" "$U" check -b "$image"
done

# as its copy does it
head -c 32 /dev/urandom >k256 && head -c 64 /dev/urandom >k512 && head -c 64 /dev/urandom >other || fail "keys"
check_status 0 "$U" create -n clear.vhd --size 24M
for at in 0 512 70000 2097152 6291456 9000000 25165312; do # single sectors, runs, a block's ends
	head -c $((RANDOM % 3000 + 512)) /dev/urandom | head -c $((25165824 - at)) |
		"$U" write clear.vhd --offset $at || fail "write"
done
check_status 0 "$U" convert clear.vhd model.raw
for k in k256 k512; do
	python3 "$root/tests/lib/encrypt-copy.py" clear.vhd $k.vhd $k || fail "making $k.vhd"
	check_out "$k.vhd is valid" "$U" check -b $k.vhd
	check_out "" "$U" key -c $k.vhd -k $k
	check_status 22 "$U" key -c $k.vhd -k other
	check_status 0 "$U" compare $k.vhd model.raw --key-file $k
	check_status 0 "$U" compare $k.vhd clear.vhd --key-file $k
	check_status 95 "$U" convert $k.vhd no.raw
	check_err encrypted
	[ ! -e no.raw ] || fail "something was converted"
	check_status 22 "$U" convert $k.vhd no.raw --key-file other
	# what they store as zeros, and we in its place
	cp model.raw after.raw && head -c 5000 /dev/urandom >new || fail "model"
	dd if=new of=after.raw bs=1 seek=1000000 conv=notrunc status=none
	check_status 0 "$U" write $k.vhd --offset 1000000 --key-file $k <new
	check_status 0 "$U" compare $k.vhd after.raw --key-file $k
	# a snapshot goes on under the same key
	check_status 0 "$U" snapshot -n $k-leaf.vhd -p $k.vhd
	check_out "" "$U" key -c $k-leaf.vhd -k $k
	dd if=new of=after.raw bs=1 seek=9000001 conv=notrunc status=none
	check_status 0 "$U" write $k-leaf.vhd --offset 9000001 --key-file $k <new
	# live
	qemu-io -f raw after.raw -c 'write -P 7 123456 70000' -c 'write -P 8 20M 4k' >/dev/null || fail "model"
	new_disk vhd:$k-leaf.vhd -E <$k
	io 'read -P 0 12M 4M' 'write -P 7 123456 70000' 'write -P 8 20M 4k' flush
	end_disk
	check_status 0 "$U" compare $k-leaf.vhd after.raw --key-file $k
	check_status 0 "$U" coalesce -n $k-leaf.vhd
	rm $k-leaf.vhd # the next image has the same id
	check_status 0 "$U" compare $k.vhd after.raw --key-file $k
	check_out "$k.vhd is valid" "$U" check -b $k.vhd
	# and back: our copy of it under another key
	check_status 0 "$U" copy $k.vhd $k-copy.vhd -k other --source-key-file $k
	check_status 0 "$U" compare $k-copy.vhd after.raw --key-file other
done
exit 0
