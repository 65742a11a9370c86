# libvhd: the library, static and shared
LIB_SRC := $(wildcard libvhd/*.c libvhd/base/*.c)
LIB_OBJ := $(call obj,$(LIB_SRC))
LIB_A   := $(BUILD)/lib/libvhd.a
LIB_SO  := $(BUILD)/lib/libvhd.so.1
LIB_LIBS := -luuid -lz -ldl
LIB_TARGETS := $(LIB_A) $(LIB_SO) $(BUILD)/lib/libvhd.so $(BUILD)/lib/libvhd.pc

# One object with only the public names global, so that the archive cannot
# clash with its embedder's names.
$(LIB_A): $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,AR,$@)$(LD) -r -o $(@D)/libvhd-all.o $^ && objcopy --localize-hidden $(@D)/libvhd-all.o \
	  && rm -f $@ && $(AR) rcs $@ $(@D)/libvhd-all.o && rm -f $(@D)/libvhd-all.o

$(LIB_SO): $(LIB_OBJ) libvhd/libvhd.map
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -shared -Wl,-soname,libvhd.so.1 -Wl,--version-script=libvhd/libvhd.map $(if $(SAN),,-Wl,-z,defs) $(LDFLAGS_ALL) -o $@ $(LIB_OBJ) $(LIB_LIBS)

$(BUILD)/lib/libvhd.so: $(LIB_SO)
	$(Q)ln -sf libvhd.so.1 $@

$(BUILD)/lib/libvhd.pc: libvhd/libvhd.pc.in GNUmakefile
	@mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|g;s|@LIBDIR@|$(LIBDIR)|g;s|@VERSION@|$(VERSION)|g' $< > $@
