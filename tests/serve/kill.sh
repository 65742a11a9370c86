#!/usr/bin/env bash
# kill - kill -9 at random moments under a writer that notes what was flushed: all of it is
# there, the image opens and is valid or has only lost space
# shellcheck source=tests/serve/ctl.inc
. "$(dirname "$0")/ctl.inc"
/usr/bin/python3 -c "import nbd" 2>/dev/null || skip "python3-libnbd is not installed"
dir=$(mktemp -d /dev/shm/vhd-test.XXXXXX) || skip "no /dev/shm"
at_exit "rm -rf '$dir'"
rounds=${ROUNDS:-$((9 - $(stride 6)))}

cat >"$T/writer.py" <<'PY'
# write random 4k pages with numbers, flush, then note what was flushed
import random, struct, sys
import nbd
seed, log = int(sys.argv[1]), open(sys.argv[2], "a", buffering=1)
h = nbd.NBD()
h.connect_uri(sys.argv[3])
size, rnd, number, pending = h.get_size(), random.Random(seed), seed << 32, {}
while True:
    for _ in range(rnd.randrange(1, 40)):
        number += 1
        page = rnd.randrange(size // 4096)
        log.write(f"w {page} {number}\n")
        h.pwrite(struct.pack(">Q", number) * 512, page * 4096)
    h.flush()
    log.write("f\n")
PY
cat >"$T/judge.py" <<'PY'
# the raw disk against the log: each page is as last flushed, or as written since
import struct, sys
durable, later = {}, {}
for line in open(sys.argv[2]):
    word = line.split()
    if word[0] == "w" and len(word) == 3:
        later.setdefault(int(word[1]), []).append(int(word[2]))
    elif word[0] == "f":
        for page, numbers in later.items():
            durable[page] = numbers[-1]
        later = {}
flushed = len(durable)
with open(sys.argv[1], "rb") as disk:
    for page in set(durable) | set(later):
        disk.seek(page * 4096)
        found = struct.unpack(">512Q", disk.read(4096))
        allowed = {durable.get(page, 0), *later.get(page, [])}
        # a page is written by sectors
        for i in range(0, 512, 64):
            if len(set(found[i:i + 64])) != 1 or found[i] not in allowed:
                sys.exit(f"page {page} sector {i // 64}: found {found[i]}, allowed {sorted(allowed)}")
print(f"{flushed} pages flushed, all there")
PY
vhd-util create -n "$dir/base.vhd" -s 64
for ((i = 1; i <= rounds; i++)); do
	rm -f "$dir/leaf.vhd" "$T/log"
	if ((i % 2)); then
		vhd-util snapshot -n "$dir/leaf.vhd" -p "$dir/base.vhd" --empty
	else
		vhd-util create -n "$dir/leaf.vhd" -s 64
	fi
	new_disk "vhd:$dir/leaf.vhd"
	timeout 60 /usr/bin/python3 "$T/writer.py" "$i" "$T/log" "$uri" >"$T/writer.out" 2>&1 &
	writer=$!
	wait_for 10 test -s "$T/log"
	sleep "0.$((RANDOM % 9))$((RANDOM % 9))"
	kill -9 "$pid"
	wait $writer
	wait_for 10 gone "$pid"
	vhd-util convert "$dir/leaf.vhd" "$T/flat.raw" --force || fail "round $i: it does not open"
	python3 "$T/judge.py" "$T/flat.raw" "$T/log" || fail "round $i: flushed data is lost"
	printf x | vhd-util write "$dir/leaf.vhd" --offset 67108000 || fail "round $i: it cannot be written"
	# lost space is allowed, damage is not
	vhd-util check "$dir/leaf.vhd" >"$T/check" || fail "round $i: $(cat "$T/check")"
	tap-ctl list >/dev/null 2>&1
	tap-ctl free -m "$minor" 2>/dev/null
done
exit 0
