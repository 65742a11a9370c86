# tests: unit programs (check_*.c), model and crash programs, scripts, fuzz targets
TEST_LIB_OBJ := $(call obj,$(wildcard tests/lib/*.c))
TEST_PROG_SRC := $(wildcard tests/unit/check_*.c tests/model/model_*.c tests/crash/crash_*.c)
TEST_PROGS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(TEST_PROG_SRC))
TEST_TOOLS := $(patsubst tests/lib/tools/%.c,$(BUILD)/tests/%,$(wildcard tests/lib/tools/*.c))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_REPLAY := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%-replay,$(FUZZ_SRC))
FUZZ_PROGS := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(FUZZ_SRC))

$(TEST_PROGS) $(TEST_TOOLS): LDLIBS_TEST = -lcrypto -lcheck -lsubunit -lrt -lm
# what the programs of one directory share
$(filter $(BUILD)/tests/model/%,$(TEST_PROGS)): $(call obj,$(filter-out tests/model/model_%,$(wildcard tests/model/*.c)))
$(BUILD)/tests/unit/check_check $(BUILD)/tests/unit/check_check_more: $(call obj,tests/unit/wrong.c)
$(BUILD)/tests/unit/check_footer $(BUILD)/tests/unit/check_header: $(call obj,tests/unit/decoding.c)
$(BUILD)/tests/unit/check_map: $(call obj,$(wildcard tests/unit/map-*.c))
$(BUILD)/tests/unit/check_repair $(BUILD)/tests/unit/check_salvage: $(call obj,tests/unit/wreck.c)
$(filter $(BUILD)/tests/crash/%,$(TEST_PROGS)): $(call obj,$(filter-out tests/crash/crash_%,$(wildcard tests/crash/*.c)))

# what changes files passes check_import.c
$(BUILD)/tests/unit/check_import: LDFLAGS_TEST = $(patsubst %,-Wl$(comma)--wrap=%,pwrite64 ftruncate64 \
	fallocate64 futimens fsync fdatasync openat64 mkdir rename)

# What crash programs call goes through tests/crash/sys.c and alloc.c; jobs and commits of
# copying are small there, so that small disks need many.
CRASH_WRAP := open64 __open64_2 openat64 mkostemp64 syscall dup close fstat64 stat64 pread64 lseek64 \
	fcntl64 write pwrite64 ftruncate64 fallocate64 fsync fdatasync unlink rename renameat2 linkat \
	malloc calloc realloc aligned_alloc posix_memalign strdup strndup realpath asprintf \
	__asprintf_chk free pthread_create copy_start
CRASH_SMALL := $(basename $(notdir $(shell grep -lE '"(copy|convert-source)\.h"' libvhd/*.c)))
CRASH_SMALL_OBJ := $(CRASH_SMALL:%=$(BUILD)/obj/tests/crash/small/%.o)
$(CRASH_SMALL_OBJ): CFLAGS_ALL += -DCOPY_BUFFER=65536u -DCOPY_SEGMENTS=24u -DCOMMIT_BYTES=16384u \
	-DPIECE_BYTES=32768ull
$(CRASH_SMALL_OBJ): $(BUILD)/obj/tests/crash/small/%.o: libvhd/%.c
	@mkdir -p $(@D)
	$(call say,CC,$< for crash tests)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(filter $(BUILD)/tests/crash/%,$(TEST_PROGS)): $(CRASH_SMALL_OBJ)
$(filter $(BUILD)/tests/crash/%,$(TEST_PROGS)): LDFLAGS_TEST = $(CRASH_WRAP:%=-Wl,--wrap=%)
$(filter $(BUILD)/tests/crash/%,$(TEST_PROGS)): replaced = $(CRASH_SMALL:%=$(BUILD)/obj/libvhd/%.o)

$(TEST_PROGS): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(TEST_LIB_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS_ALL) $(LDFLAGS_TEST) -o $@ $(filter-out $(replaced),$^) $(LIB_LIBS) $(LDLIBS_TEST)

# the server's rooms: tests/tapdisk with the real loop and engines; tests/sim with a loop and an
# engine of their own, in which time and completions are decided by a seed
TAPDISK_TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/tapdisk/check_*.c))
SIM_TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/sim/sim_*.c))
SIM_OBJ := $(call obj,$(filter-out tests/sim/sim_%,$(wildcard tests/sim/*.c)) tapdisk/engine/retry.c \
	$(foreach d,drivers core jobs,$(wildcard tapdisk/$(d)/*.c)))
$(TAPDISK_TESTS): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(TEST_LIB_OBJ) $(TAPDISK_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(TAPDISK_LIBS) -lcrypto -lcheck -lsubunit -lrt -lm
# the world of the NBD tests
$(filter $(BUILD)/tests/tapdisk/check_nbd_%,$(TAPDISK_TESTS)): $(call obj,$(wildcard tests/tapdisk/nbd-*.c))
# the world of the core's and the drivers' tests
$(patsubst %,$(BUILD)/tests/tapdisk/check_%,vbd drivers reopen): $(call obj,tests/tapdisk/vbd-world.c)
# and of the control tests
$(filter $(BUILD)/tests/tapdisk/check_control%,$(TAPDISK_TESTS)): $(call obj,$(wildcard tests/tapdisk/control-*.c))
# speed of a room alone, for `perf`
BENCH_TOOLS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/bench/*.c))
$(BENCH_TOOLS): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(TAPDISK_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(TAPDISK_LIBS)
# xmsnap: its rooms without the program; the program with steps that can fail
$(BUILD)/tests/tapdisk/check_xmsnap: $(filter-out %/main.o,$(XMSNAP_OBJ))
$(BUILD)/tests/tapdisk/check_xmsnap: TAPDISK_LIBS += -lxml2
XMSNAP_STEPS := link rename unlink io_file_sync_directory vhd_snapshot vhd_coalesce remote_ask \
	remote_next remote_call
$(BUILD)/tests/xmsnap-steps: $(call obj,tests/serve/steps.c $(wildcard tapdisk/protocol/*.c)) \
		$(XMSNAP_OBJ) $(CLI_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS_ALL) $(XMSNAP_STEPS:%=-Wl,--wrap=%) -o $@ $^ $(XMSNAP_LIBS)

# files are in memory there: tests/sim/store.c
SIM_WRAP := atomic_temp create_id create_now create_sparse_file fchmod fchown fstat64 io_file_fd \
	io_file_from_fd io_file_open io_file_replace io_file_set_name io_file_sync_directory link rename stat64 unlink
$(SIM_TESTS): LDFLAGS_TEST = $(SIM_WRAP:%=-Wl,--wrap=%)
$(SIM_TESTS): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(SIM_OBJ) $(TEST_LIB_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS_ALL) $(LDFLAGS_TEST) -o $@ $^ $(LIB_LIBS) -lcrypto -lcheck -lsubunit -lrt -lm

# small programs that scripts use, with tests/lib and libvhd
$(TEST_TOOLS): $(BUILD)/tests/%: $(BUILD)/obj/tests/lib/tools/%.o $(TEST_LIB_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIB_LIBS) $(LDLIBS_TEST)

# a fuzz target with a main that replays its corpus: needs no fuzzer
FUZZ_TAPDISK := fuzz_nbd fuzz_message # targets that run the server
$(patsubst %,$(BUILD)/tests/fuzz/%-replay,$(FUZZ_TAPDISK)): $(TAPDISK_OBJ)
$(patsubst %,$(BUILD)/tests/fuzz/%-replay,$(FUZZ_TAPDISK)) $(patsubst %,build/fuzz/%,$(FUZZ_TAPDISK)): FUZZ_LIBS = $(TAPDISK_LIBS)
$(FUZZ_REPLAY): $(BUILD)/tests/fuzz/%-replay: $(BUILD)/obj/tests/fuzz/%.o $(BUILD)/obj/tests/fuzz/replay.o $(TEST_LIB_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(or $(FUZZ_LIBS),$(LIB_LIBS)) -lcrypto

# with a fuzzer: all objects anew, so that it sees what every branch does
FUZZ_CC := clang -std=gnu17 -O1 -g -fno-sanitize-recover=all -D_GNU_SOURCE -pthread
FUZZ_LIB_OBJ := $(patsubst %.c,build/fuzz/obj/%.o,$(LIB_SRC) $(wildcard tests/lib/*.c))
build/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,FUZZCC,$<)$(FUZZ_CC) -fsanitize=fuzzer-no-link,address,undefined \
	  -DVHD_VERSION_TEXT='"$(VERSION)"' -I. -MMD -MP -c -o $@ $<
$(patsubst %,build/fuzz/%,$(FUZZ_TAPDISK)): $(patsubst %.c,build/fuzz/obj/%.o,$(TAPDISK_SRC))
build/fuzz/%: build/fuzz/obj/tests/fuzz/%.o $(FUZZ_LIB_OBJ)
	$(call say,FUZZ,$@)$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -o $@ $^ $(or $(FUZZ_LIBS),$(LIB_LIBS)) -lcrypto
-include $(shell find build/fuzz/obj -name '*.d' 2>/dev/null)

check:
	$(Q)scripts/packages build check
	$(Q)$(MAKE) --no-print-directory check-run

.PHONY: check-run test-programs
test-programs: all $(TEST_PROGS) $(TAPDISK_TESTS) $(SIM_TESTS) $(TEST_TOOLS) $(BENCH_TOOLS) $(FUZZ_REPLAY) \
	$(BUILD)/tests/xmsnap-steps
check-run: test-programs
	$(Q)BUILD=$(BUILD) SAN='$(SAN)' tests/run '$(TEST)'

soak: test-programs
	$(Q)BUILD=$(BUILD) SOAK=1 tests/run '$(TEST)'

fuzz:
	$(Q)scripts/packages build fuzz
	$(Q)$(MAKE) --no-print-directory $(FUZZ_PROGS)
	$(Q)FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run $(FUZZ_PROGS)

bench:
	$(Q)scripts/packages build bench
	$(Q)$(MAKE) --no-print-directory all $(BUILD)/tests/scatter
	$(Q)BIN=$(BUILD)/bin tests/bench/run
	$(Q)BIN=$(BUILD)/bin tests/bench/serve
