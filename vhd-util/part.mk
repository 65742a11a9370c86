# vhd-util: a table of commands over libvhd; cli/: what all command lines share
CLI_OBJ := $(call obj,$(wildcard cli/*.c))
VHD_UTIL_SRC := $(wildcard vhd-util/*.c)
VHD_UTIL_OBJ := $(call obj,$(VHD_UTIL_SRC))
PROGRAMS += $(BUILD)/bin/vhd-util

$(BUILD)/bin/vhd-util: $(VHD_UTIL_OBJ) $(CLI_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIB_LIBS) -ljansson

# td-util: commands of vhd-util with a type before; cbt-util: changed-block logs
PROGRAMS += $(BUILD)/bin/td-util $(BUILD)/bin/cbt-util
TD_UTIL_SHARED := $(patsubst %,vhd-util/%.c,cmd-create cmd-snapshot cmd-query cmd-set peek)
$(BUILD)/bin/td-util: $(call obj,$(wildcard td-util/*.c) $(TD_UTIL_SHARED)) $(CLI_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIB_LIBS) -ljansson
$(BUILD)/bin/cbt-util: $(call obj,$(wildcard cbt-util/*.c)) $(CLI_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIB_LIBS) -ljansson
