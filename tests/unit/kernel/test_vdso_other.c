/* The refusal of machines that no code is for: compiled here in place of this machine's own. */
#define VDSO_OTHER_MACHINE
#include "kernel/vdso_other.c"	/* NOLINT(bugprone-suspicious-include) */

#include <criterion/criterion.h>
#include <string.h>
#include "core/clock.h"
#include "fault/clock_skew_record.h"

static struct utsname this_machine(void)
{
	struct utsname u;

	cr_assert_eq(uname(&u), 0);
	return u;
}

Test(vdso_other, a_patch_is_refused)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	_cleanup_err_ struct err *err = NULL;
	struct vdso_skew skew = {.token = 1, .length_ns = NS_PER_S};
	struct vdso_patch patch = {0};
	struct utsname u = this_machine();

	cr_assert_eq(vdso_own(&own, &err), 0, "%s", err_text(err));
	cr_expect_eq(vdso_patch_build(&own, &skew, false, &patch, &err), -EOPNOTSUPP);
	cr_expect_null(patch.bytes);
	cr_expect(strstr(err_text(err), "x86_64 machines, this is") && strstr(err_text(err), u.machine), "%s",
		err_text(err));
}

/* What "pgjolt-agent faults" says there. */
Test(vdso_other, the_fault_is_not_supported)
{
	struct support support = {.supported = true};
	struct utsname u = this_machine();

	cr_assert_eq(clock_probe(NULL, &support, NULL), 0);
	cr_expect_not(support.supported);
	cr_expect(support.reason && strstr(support.reason, u.machine), "%s", support.reason);
	free(support.mechanism);
	free(support.reason);
}

Test(vdso_other, who_may_be_inside_is_waited_for)
{
	struct vdso_image own = {.size = 8192, .padding = 4096, .clock_gettime = {512, 64}};
	struct vdso_process p = {.fd = -1, .address = 0x7000000, .size = 8192};
	struct vdso_place place = {.known = true, .inside = true, .offset = 520};

	cr_expect_not(vdso_needs_entries(&place, &own));
	cr_expect(vdso_needs_block(&p, &place, &own));
	place.inside = false;
	cr_expect_not(vdso_needs_block(&p, &place, &own));
}
