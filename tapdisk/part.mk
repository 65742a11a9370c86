# tapdisk: the server, tap-ctl and xmsnap
TAPDISK_ROOMS := log loop engine drivers core front jobs protocol control
TAPDISK_SRC := $(foreach d,$(TAPDISK_ROOMS),$(wildcard tapdisk/$(d)/*.c))
TAPDISK_OBJ := $(call obj,$(TAPDISK_SRC))
TAPDISK_LIBS := $(LIB_LIBS) -luv -luring -laio -ljansson -lgnutls

ifneq ($(wildcard tapdisk/main.c),)
PROGRAMS += $(BUILD)/bin/tapdisk
$(BUILD)/bin/tapdisk: $(call obj,$(wildcard tapdisk/*.c)) $(TAPDISK_OBJ) $(CLI_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(TAPDISK_LIBS)
endif

ifneq ($(wildcard tapdisk/ctl/*.c),)
PROGRAMS += $(BUILD)/bin/tap-ctl
$(BUILD)/bin/tap-ctl: $(call obj,$(wildcard tapdisk/ctl/*.c tapdisk/protocol/*.c)) $(CLI_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(LIB_LIBS) -ljansson
endif

XMSNAP_OBJ := $(call obj,$(wildcard tapdisk/xmsnap/*.c))
XMSNAP_LIBS := $(LIB_LIBS) -ljansson -lxml2
PROGRAMS += $(BUILD)/bin/xmsnap
$(XMSNAP_OBJ): CFLAGS_ALL += $(shell pkg-config --cflags libxml-2.0)
$(BUILD)/bin/xmsnap: $(XMSNAP_OBJ) $(call obj,$(wildcard tapdisk/protocol/*.c)) $(CLI_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -pie $(LDFLAGS_ALL) -o $@ $^ $(XMSNAP_LIBS)
