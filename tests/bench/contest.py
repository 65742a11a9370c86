"""contest.py - what the benchmarks share: knobs, turns, ratios, verdicts

Contenders take turns within a round (A B C, then C B A, and so on), so that what else the machine
does meets all of them; a ratio is the median over the rounds of the ratios inside each round.

BENCH_DIR (default /dev/shm, then /var/tmp), BENCH_ROUNDS (5), BENCH_MIB (1024),
BENCH_ROWS (a regular expression: only rows that match).
"""
import os
import re
import shutil
import signal
import statistics
import sys
import tempfile

BIN = os.path.abspath(os.environ.get("BIN", "build/bin"))
TOOLS = os.path.join(os.path.dirname(BIN), "tests")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
MIB = int(os.environ.get("BENCH_MIB", "1024"))
ROWS = re.compile(os.environ.get("BENCH_ROWS", ""))
PLACES = [os.environ["BENCH_DIR"]] if "BENCH_DIR" in os.environ else ["/dev/shm", "/var/tmp"]
verdicts = []
# interrupted, in the background too: servers and files go
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def wanted(title):
    return ROWS.search(title)


def turns(contenders, rounds=ROUNDS):
    """{name: [result of each round]} of {name: action}; the order turns round every time."""
    results = {name: [] for name in contenders}
    for i in range(rounds):
        for name in list(contenders)[::-1 if i % 2 else 1]:
            results[name].append(contenders[name]())
    return results


def ratio(ours, theirs):
    """Ours / theirs, round by round."""
    return statistics.median(a / b for a, b in zip(ours, theirs))


def report(title, facts, target, met):
    verdicts.append(met)
    print(f"{title:26} {facts}\n{'':26} target: {target}: {'met' if met else 'MISSED'}", flush=True)


def skip(title, why):
    print(f"{title:26} skipped: {why}", flush=True)


def in_scratch(place, work):
    """work(folder) in a new folder of @place, which is removed."""
    folder = tempfile.mkdtemp(prefix="vhd-bench.", dir=place)
    try:
        os.chdir(folder)
        work(folder)
    finally:
        os.chdir("/")
        shutil.rmtree(folder)


def summary():
    print(f"{sum(verdicts)} of {len(verdicts)} targets met")
