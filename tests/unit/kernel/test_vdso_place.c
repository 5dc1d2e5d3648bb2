/* Which threads stand in the way of a patch, by where they go on and return to. */
#include <criterion/criterion.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/vdso.h"

#if defined(__x86_64__)

/* A thread in clock_gettime's own code whose way back leads into the block, and one whose does not. */
Test(vdso_place, who_returns_into_the_block_needs_it)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};
	uint64_t stack[160] = {0};
	struct vdso_place place = {.known = true, .inside = true, .stack = (uint64_t)(uintptr_t)stack};

	cr_assert_eq(vdso_own(&own, NULL), 0);
	cr_assert_eq(vdso_open(getpid(), &own, &p, NULL), 0);
	place.offset = own.clock_gettime.offset + 12;
	cr_expect_not(vdso_needs_block(&p, &place, &own));
	cr_expect_not(vdso_needs_entries(&place, &own));
	place.offset = own.clock_gettime.offset + 4;
	cr_expect(vdso_needs_entries(&place, &own), "in the middle of a jump to be");
	stack[5] = p.address + own.padding + 32;
	cr_expect(vdso_needs_block(&p, &place, &own));
	stack[5] = p.address + own.padding - 1;
	cr_expect_not(vdso_needs_block(&p, &place, &own));
	place.stack = 8;	/* nothing can be read there */
	cr_expect(vdso_needs_block(&p, &place, &own));
	place.offset = own.padding + 40;
	cr_expect(vdso_needs_block(&p, &place, &own));
}

#endif

Test(vdso_place, who_runs_may_be_anywhere)
{
	struct vdso_image own = {.size = 8192, .padding = 4096, .clock_gettime = {512, 64}};
	struct vdso_process p = {.fd = -1, .address = 0x7000000, .size = 8192};
	struct vdso_place place = {.known = false};

	cr_expect(vdso_needs_entries(&place, &own));
	cr_expect(vdso_needs_block(&p, &place, &own));
	place.known = true;
	cr_expect_not(vdso_needs_entries(&place, &own));
	cr_expect_not(vdso_needs_block(&p, &place, &own));
}
