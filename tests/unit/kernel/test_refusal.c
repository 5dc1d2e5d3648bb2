/* Which no of the kernel's is for good, and which may be yes a moment later. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>
#include "core/err.h"
#include "kernel/refusal.h"

Test(refusal, what_a_kernel_lacks_is_for_good)
{
	static const int codes[] = {EINVAL, EPERM, ENOSYS, ENOENT, EOPNOTSUPP, EACCES, E2BIG};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		_cleanup_err_ struct err *err = NULL;

		cr_expect(eq(int, kernel_refusal(&err, -codes[i], "make a link"), -EOPNOTSUPP));
		cr_expect(strncmp(err_text(err), "make a link: ", 13) == 0, "%s", err_text(err));
		cr_expect(strstr(err_text(err), strerror(codes[i])) != NULL, "%s", err_text(err));
	}
}

Test(refusal, what_passes_keeps_its_code)
{
	static const int codes[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS, ENOSPC, EAGAIN, EINTR, EBUSY};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		_cleanup_err_ struct err *err = NULL;

		cr_expect(eq(int, kernel_refusal(&err, codes[i], "make a link"), -codes[i]));
		cr_expect(strstr(err_text(err), strerror(codes[i])) != NULL, "%s", err_text(err));
		cr_expect(strstr(err_text(err), "kernel") == NULL, "%s", err_text(err));
	}
}
