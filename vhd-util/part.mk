# vhd-util: a table of commands over libvhd
VHD_UTIL_SRC := $(wildcard vhd-util/*.c)
VHD_UTIL_OBJ := $(call obj,$(VHD_UTIL_SRC))
PROGRAMS += $(BUILD)/bin/vhd-util

$(BUILD)/bin/vhd-util: $(VHD_UTIL_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIB_LIBS) -ljansson

# completions, from the table of commands
COMPLETIONS := $(foreach s,bash zsh fish,$(BUILD)/completions/vhd-util.$(s))
all: $(COMPLETIONS)
$(COMPLETIONS): $(BUILD)/completions/vhd-util.%: $(BUILD)/bin/vhd-util
	@mkdir -p $(@D)
	$(call say,GEN,$@)$< --completions $* > $@
