/* check-target.c - what another platform would refuse, and what to do about it
 *
 * Each rule broken is a finding of its own.  Rules: doc/format.md "Targets".
 */
#include <string.h>
#include <strings.h>

#include "base/number.h"
#include "check.h"
#include "geometry.h"

#define MIB (1ull << 20)

static struct vhd_finding violation(uint64_t offset)
{
	return (struct vhd_finding){ .code = -VHD_E_AZURE,
				     .severity = VHD_DAMAGE,
				     .has = VHD_HAS_OFFSET,
				     .offset = offset };
}

static struct vhd_finding violation_value(uint64_t offset, uint64_t expected, uint64_t found)
{
	struct vhd_finding f = violation(offset);

	f.has |= VHD_HAS_VALUES;
	f.expected = expected;
	f.found = found;
	return f;
}

static void check_azure_size(struct check *c)
{
	uint64_t size = c->footer.current_size;
	uint64_t whole = number_round_up(size, MIB);
	struct vhd_finding f = violation_value(c->end_offset + FOOTER_CURRENT_SIZE, whole, size);

	if (size != whole)
		check_report(c, &f,
			     "Azure takes disks of a whole number of MiB, this one has %llu "
			     "bytes; make it %llu: vhd-util convert --for azure",
			     (unsigned long long)size, (unsigned long long)whole);
	f.expected = VHD_AZURE_LEAST;
	if (size < VHD_AZURE_LEAST)
		check_report(c, &f,
			     "Azure takes disks of at least 20 MiB, this one has %llu bytes; "
			     "make a larger disk",
			     (unsigned long long)size);
}

static void check_azure(struct check *c)
{
	const struct vhd_footer *footer = &c->footer;
	uint64_t expected = footer->current_size + VHD_FOOTER_BYTES;
	struct vhd_finding type = violation_value(c->end_offset + FOOTER_TYPE, VHD_TYPE_FIXED,
						  footer->type);
	struct vhd_finding length = violation_value(0, expected, c->file_bytes);
	struct vhd_finding other = violation(c->end_offset);
	size_t name = strlen(c->file);

	if (footer->type != VHD_TYPE_FIXED)
		check_report(c, &type,
			     "Azure takes fixed disks only, this one is %s; make one: "
			     "vhd-util convert --for azure",
			     footer->type == VHD_TYPE_DYNAMIC ? "dynamic" : "differencing");
	check_azure_size(c);
	if (footer->type == VHD_TYPE_FIXED && c->file_bytes != expected)
		check_report(c, &length,
			     "Azure wants a file of disk and footer alone, %llu bytes, "
			     "this one has %llu; write it anew: vhd-util convert --for azure",
			     (unsigned long long)expected, (unsigned long long)c->file_bytes);
	if (!c->has_end)
		check_report(c, &other,
			     "Azure wants the footer in the last 512 bytes; restore it: "
			     "vhd-util repair");
	if (footer->type == VHD_TYPE_FIXED && footer->data_offset != VHD_NO_OFFSET)
		check_report(c, &other,
			     "Azure wants a fixed disk's footer to name no header; write "
			     "it anew: vhd-util convert --for azure");
	if (name < 4 || strcasecmp(c->file + name - 4, ".vhd") != 0)
		check_report(c, &other, "Azure takes files named .vhd only; rename it");
}

static void check_block_size(struct check *c, const char *who, const char *target, bool half)
{
	struct vhd_finding f = violation_value(c->footer.data_offset + HEADER_BLOCK_SIZE,
					       VHD_BLOCK_DEFAULT, c->header.block_size);

	if (!c->has_header || c->header.block_size == VHD_BLOCK_DEFAULT ||
	    (half && c->header.block_size == VHD_BLOCK_DEFAULT / 4))
		return;
	check_report(c, &f,
		     "%s wants blocks of 2 MiB%s, these have %u bytes; write it anew: "
		     "vhd-util convert --for %s",
		     who, half ? " or 512 KiB" : "", c->header.block_size, target);
}

static void check_hyperv(struct check *c)
{
	static const uint8_t none[VHD_UUID_BYTES];
	const struct vhd_footer *footer = &c->footer;
	uint64_t need;
	struct vhd_finding f = violation_value(c->end_offset + FOOTER_FEATURES,
					       VHD_FEATURE_RESERVED, footer->features);

	if (!(footer->features & VHD_FEATURE_RESERVED) ||
	    footer->features & ~(VHD_FEATURE_RESERVED | VHD_FEATURE_TEMPORARY))
		check_report(c, &f,
			     "Hyper-V wants features 2, the footer has 0x%x; write it anew: "
			     "vhd-util convert --for hyperv",
			     footer->features);
	f = violation(c->end_offset + FOOTER_UUID);
	if (!memcmp(footer->uuid, none, sizeof(none)))
		check_report(c, &f,
			     "Hyper-V wants disks with an id; write it anew: vhd-util convert "
			     "--for hyperv");
	f = violation(c->end_offset + FOOTER_DATA_OFFSET);
	if (footer->type == VHD_TYPE_FIXED && footer->data_offset != VHD_NO_OFFSET)
		check_report(c, &f,
			     "Hyper-V wants a fixed disk's footer to name no header; write it "
			     "anew: vhd-util convert --for hyperv");
	if (!c->has_header)
		return;
	check_block_size(c, "Hyper-V", "hyperv", true);
	need = number_div_up(footer->current_size, c->header.block_size);
	f = violation_value(footer->data_offset + HEADER_MAX_ENTRIES, need, c->header.max_entries);
	if (c->header.max_entries != need)
		check_report(c, &f,
			     "Hyper-V wants a table of exactly %llu entries, this one has %u; "
			     "write it anew: vhd-util convert --for hyperv",
			     (unsigned long long)need, c->header.max_entries);
	f = violation(footer->data_offset + HEADER_DATA_OFFSET);
	if (c->header.data_offset != VHD_NO_OFFSET)
		check_report(c, &f,
			     "Hyper-V wants the header to name no next structure; write it "
			     "anew: vhd-util convert --for hyperv");
}

static void check_xen(struct check *c)
{
	const struct vhd_footer *footer = &c->footer;
	uint64_t size = footer->current_size;
	struct vhd_geometry g = geometry_for(size / VHD_SECTOR);
	uint64_t chs = (uint64_t)g.cylinders * g.heads * g.sectors_per_track * VHD_SECTOR;
	struct vhd_finding f = violation_value(c->end_offset + FOOTER_TYPE, VHD_TYPE_DYNAMIC,
					       footer->type);

	if (footer->type == VHD_TYPE_FIXED)
		check_report(c, &f,
			     "XenServer wants dynamic or differencing disks, this one is "
			     "fixed; make one: vhd-util convert --for xen");
	f = violation_value(c->end_offset + FOOTER_CURRENT_SIZE, number_round_up(size, 2 * MIB),
			    size);
	if (size % (2 * MIB))
		check_report(c, &f,
			     "XenServer wants sizes in steps of 2 MiB, this disk has %llu "
			     "bytes; make it %llu: vhd-util convert --for xen",
			     (unsigned long long)size,
			     (unsigned long long)number_round_up(size, 2 * MIB));
	f = violation_value(c->end_offset + FOOTER_GEOMETRY, chs, footer_chs_bytes(footer));
	if (footer_chs_bytes(footer) > chs)
		check_report(c, &f,
			     "XenServer refuses a geometry (%u/%u/%u) larger than that of the "
			     "size (%u/%u/%u); write it anew: vhd-util convert --for xen",
			     footer->cylinders, footer->heads, footer->sectors_per_track,
			     g.cylinders, g.heads, g.sectors_per_track);
	check_block_size(c, "XenServer", "xen", false);
}

static void check_vpc(struct check *c)
{
	const struct vhd_footer *footer = &c->footer;
	uint64_t size = footer->current_size, chs = footer_chs_bytes(footer);
	struct vhd_finding f = violation_value(c->end_offset + FOOTER_GEOMETRY, size, chs);

	if (chs != size)
		check_report(c, &f,
			     "Virtual PC shows what the geometry (%u/%u/%u) spans, %llu "
			     "bytes, but the disk has %llu; make the size fit: vhd-util "
			     "convert --for vpc",
			     footer->cylinders, footer->heads, footer->sectors_per_track,
			     (unsigned long long)chs, (unsigned long long)size);
	f = violation_value(c->end_offset + FOOTER_CURRENT_SIZE, VHD_VPC_MOST, size);
	if (size > VHD_VPC_MOST)
		check_report(c, &f,
			     "Virtual PC takes disks of at most %llu bytes (about 127 GiB), "
			     "this one has %llu; make a smaller disk",
			     (unsigned long long)VHD_VPC_MOST, (unsigned long long)size);
	check_block_size(c, "Virtual PC", "vpc", true);
}

void check_target(struct check *c)
{
	if (!c->has_footer)
		return;
	switch (c->options->target) {
	case VHD_FOR_ANY:
		break;
	case VHD_FOR_AZURE:
		check_azure(c);
		break;
	case VHD_FOR_HYPERV:
		check_hyperv(c);
		break;
	case VHD_FOR_XEN:
		check_xen(c);
		break;
	case VHD_FOR_VPC:
		check_vpc(c);
		break;
	}
}
