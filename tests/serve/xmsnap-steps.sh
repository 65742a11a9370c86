#!/usr/bin/env bash
# xmsnap - every step fails, is interrupted, is the last one before a SIGKILL, or takes longer than
# the lease: nothing is lost, nothing stays paused, and the old leaves go on
# shellcheck source=tests/serve/three.inc
. "$(dirname "$0")/three.inc"
steps=$TOOLS/xmsnap-steps
every=$(stride 4)
start_writer
XMSNAP_STEP=count "$steps" --domain-xml vm.xml --name count >out 2>count || fail "count: $(cat count)"
one_point count
count=$(sed -n 's/ steps$//p' count)
[ "$count" -ge 30 ] || fail "only $count steps"

for ((n = 1; n <= count; n += every)); do
	keep_leaves
	XMSNAP_STEP="fail $n" "$steps" --domain-xml vm.xml --name "f$n" --timeout 5 >out 2>err
	status=$?
	# the first three ask who serves what: a tapdisk that does not answer serves nothing
	want=5
	[ $n -gt 3 ] || want=19
	! grep -q 'answer: fail' err || want=110
	[ $status = $want ] || fail "step $n failed: status $status: $(cat err)"
	same_leaves || fail "step $n failed: $(cat err): leaves are $(leaves)"
	wait_for 10 all_running
	writer_lives
	XMSNAP_STEP="int $n" "$steps" --domain-xml vm.xml --name "i$n" --timeout 5 >out 2>err
	status=$?
	if [ $status = 0 ]; then # too late to go back
		one_point "i$n"
	else
		[ $status = 130 ] || fail "interrupted at $n: status $status: $(cat err)"
		same_leaves || fail "interrupted at $n: $(cat err): leaves are $(leaves)"
	fi
	wait_for 10 all_running
done

# and a second step fails while the first failure is undone: whatever is left, no write is lost
# and nothing stays paused
for ((n = 2; n <= count; n += 3 * every)); do
	for m in 1 2 4 7; do
		XMSNAP_STEP="fail $n $((n + m))" "$steps" --domain-xml vm.xml --name "g$n-$m" \
			--timeout 5 >out 2>err && fail "steps $n and $m failed, status 0"
		wait_for 10 all_running
		writer_lives
	done
done

for ((n = 1; n <= count; n += every)); do
	XMSNAP_STEP="kill $n" "$steps" --domain-xml vm.xml --name "k$n" >out 2>err &
	wait $! 2>/dev/null
	status=$?
	[ $status = 137 ] || fail "killed at $n: status $status: $(cat err)"
	wait_for 10 all_running
	writer_lives
	for d in a b c; do
		vhd-util check "$dir/$d/$d.vhd" --parents >checked || fail "killed at $n: $d: $(cat checked)"
	done
done

# slow storage: the lease (twice the time-out) runs out while names change
rename=$(XMSNAP_STEP=count "$steps" --domain-xml vm.xml --name c2 2>&1 >out | sed -n 's/ steps$//p')
[ "$rename" = "$count" ] || fail "$rename steps instead of $count"
for n in $((count - 18)) $((count - 13)) $((count - 11)) $((count - 9)) $((count - 4)); do
	keep_leaves
	XMSNAP_STEP="wait $n 3" "$steps" --domain-xml vm.xml --name "w$n" --timeout 1 >out 2>err
	status=$?
	wait_for 10 all_running
	writer_lives
	if [ $status = 0 ]; then
		one_point "w$n"
	else
		[ $status = 110 ] || fail "slow at $n: status $status: $(cat err)"
		same_leaves || fail "slow at $n: $(cat err): leaves are $(leaves)"
	fi
	echo "slow at $n: status $status: $(grep -o 'step .*' err)" >>slow
done
grep -q 'status 0' slow && grep -q 'status 110' slow || fail "no case of each: $(cat slow)"

# the last disk cannot go on with its new leaf: the others, which do already, come back from theirs
keep_leaves
rm err
XMSNAP_STEP="wait $((count - 5)) 1" "$steps" --domain-xml vm.xml --name spoilt >out 2>err &
victim=$!
wait_for 5 grep -q Unpause err
: >"$dir/c/c.vhd"
wait $victim && fail "a leaf was spoilt, status 0"
same_leaves || fail "a leaf was spoilt: $(cat err): leaves are $(leaves)"
all_running || fail "a leaf was spoilt: $(tap-ctl list)"
writer_lives
# and the same if its tapdisk dies meanwhile; what the others wrote stays
kill "$writer"
wait "$writer" 2>/dev/null
rm err
XMSNAP_STEP="wait $((count - 5)) 1" "$steps" --domain-xml vm.xml --name dead >out 2>err &
victim=$!
wait_for 5 grep -q Unpause err
kill -9 "${p[c]}"
wait $victim && fail "a tapdisk died, status 0"
same_leaves || fail "a tapdisk died: $(cat err): leaves are $(leaves)"
[ "$(tap-ctl list | grep -c 'state=0x0 ')" = 2 ] || fail "a tapdisk died: $(tap-ctl list)"
for d in a b; do
	kill "${p[$d]}"
	wait_for 10 gone "${p[$d]}"
done
for d in a b c; do
	vhd-util check "$dir/$d/$d.vhd" --parents >checked || fail "$d: $(cat checked)"
done
exit 0
