/* By what programs come onto an interface: found out by trying, and a try that failed for want of
 * descriptors says nothing about the kernel. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/err.h"
#include "fault/net_attach.h"
#include "kernel/tcx.h"

#define DESCRIPTORS_MAX 64

/* With one descriptor more each time, until there are enough: the try fails at each of its steps. */
static void choose_with_few(const struct node *node, enum net_hook wanted)
{
	struct rlimit before, few;
	int failed = 0, r = -EMFILE;
	enum net_hook hook;

	cr_assert(getrlimit(RLIMIT_NOFILE, &before) == 0);
	few = before;
	for (rlim_t n = 3; n < DESCRIPTORS_MAX && r < 0; n++) {
		_cleanup_err_ struct err *err = NULL;

		few.rlim_cur = n;
		cr_assert(setrlimit(RLIMIT_NOFILE, &few) == 0);
		r = net_hook_choose(node, &hook, &err);
		setrlimit(RLIMIT_NOFILE, &before);
		failed += r < 0;
		cr_expect(r == 0 || r == -EMFILE, "with %d: %s", (int)n, err_text(err));
	}
	cr_expect(failed >= 2, "it needs a namespace and a program at least: %d", failed);
	cr_assert(eq(int, r, 0));
	cr_expect(eq(int, hook, wanted));
	cr_assert(eq(int, net_hook_choose(node, &hook, NULL), 0));
	cr_expect(eq(int, hook, wanted));
}

static bool has_tcx(void)
{
	pid_t child = fork();	/* what is found out there is not remembered here */
	int status = -1;

	if (child == 0)
		_exit(tcx_supported(NULL) == 0 ? 0 : 1);
	cr_assert(child > 0 && waitpid(child, &status, 0) == child);
	return status == 0;
}

Test(net_attach, want_of_descriptors_is_not_want_of_tcx)
{
	const struct node node = {.name = "test"};

	if (geteuid() != 0)
		cr_skip_test("needs root");
	choose_with_few(&node, has_tcx() ? NET_HOOK_TCX : NET_HOOK_CLSACT);
}

Test(net_attach, want_of_descriptors_is_not_want_of_clsact)
{
	const struct node node = {.name = "test", .without_tcx = true};

	if (geteuid() != 0)
		cr_skip_test("needs root");
	choose_with_few(&node, NET_HOOK_CLSACT);
}
