# vhd-util: a table of commands over libvhd; cli/: what all command lines share
CLI_OBJ := $(call obj,$(wildcard cli/*.c))
VHD_UTIL_SRC := $(wildcard vhd-util/*.c)
VHD_UTIL_OBJ := $(call obj,$(VHD_UTIL_SRC))
PROGRAMS += $(BUILD)/bin/vhd-util

$(BUILD)/bin/vhd-util: $(VHD_UTIL_OBJ) $(CLI_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIB_LIBS) -ljansson
