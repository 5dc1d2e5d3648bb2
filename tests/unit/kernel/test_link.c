/* In network namespaces of its own; the host's is never entered. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/err.h"
#include "core/json.h"
#include "kernel/link.h"
#include "kernel/netns.h"
#include "kernel/tcx.h"

static pid_t keeper = -1;
static int netns_fd = -1;

/* A process of our own keeps a namespace alive. */
static void setup(void)
{
	int ready[2];
	char c;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	cr_assert(pipe(ready) == 0);
	keeper = fork();
	cr_assert(ge(int, keeper, 0));
	if (keeper == 0) {
		if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	cr_assert(read(ready[0], &c, 1) == 1);
	close(ready[0]);
	close(ready[1]);
	cr_assert(netns_open(keeper, &netns_fd, NULL) == 0);
}

static void teardown(void)
{
	if (keeper > 0) {
		kill(keeper, SIGKILL);
		waitpid(keeper, NULL, 0);
	}
	if (netns_fd >= 0)
		close(netns_fd);
}

TestSuite(link, .init = setup, .fini = teardown);

Test(link, a_visit_leaves_the_caller_where_it_was)
{
	uint64_t own, again, other;
	_cleanup_close_ int fd = -1;

	cr_assert(netns_own_inode(&own, NULL) == 0);
	cr_assert(netns_inode(netns_fd, &other, NULL) == 0);
	cr_expect(ne(u64, own, other));
	cr_assert(netns_socket(netns_fd, AF_INET, SOCK_DGRAM, 0, &fd, NULL) == 0);
	cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert(netns_own_inode(&again, NULL) == 0);
	cr_expect(eq(u64, own, again));
}

static int fail_inside(void *data, struct err **err)
{
	(void)data;
	return err_set(err, EBUSY, "words from inside");
}

Test(link, a_visit_hands_errors_back)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_close_ int not_a_namespace = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fd = -1;

	cr_expect(eq(int, netns_run(netns_fd, fail_inside, NULL, &err), -EBUSY));
	cr_expect(eq(str, (char *)err_text(err), "words from inside"));
	cr_expect(eq(int, netns_run(not_a_namespace, fail_inside, NULL, &err), -EINVAL));
	cr_expect(eq(int, netns_open(0, &fd, NULL), -EINVAL));
	cr_expect(eq(int, netns_open(0x7ffffffe, &fd, NULL), -ENOENT));
	cr_expect(eq(int, fd, -1));
}

static const struct link_info *find(const struct link_info *l, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(l[i].name, name) == 0)
			return &l[i];
	return NULL;
}

Test(link, a_tap_comes_up_silent_and_goes_with_its_descriptor)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ struct link_info *links = NULL;
	_cleanup_strv_ char **addresses = NULL;
	const struct link_info *tap;
	int fd = -1, ifindex = 0, second = -1, r;
	uint8_t frame[2048];
	size_t n = 0;

	r = link_tap_open(netns_fd, "pjt-unit0", 1400, &fd, &ifindex, &err);
	cr_assert(eq(int, r, 0), "%s", err_text(err));
	cr_assert(link_list(netns_fd, &links, &n, NULL) == 0);
	cr_assert(eq(sz, n, 2));
	tap = find(links, n, "pjt-unit0");
	cr_assert(tap != NULL);
	cr_expect(eq(int, tap->ifindex, ifindex));
	cr_expect(eq(u32, tap->mtu, 1400));
	cr_expect(tap->up && !tap->loopback && link_is_our_tap(tap));
	cr_expect(find(links, n, "lo")->loopback);
	cr_expect(link_is_our_tap(find(links, n, "lo")) == false);
	cr_assert(link_addresses(netns_fd, &addresses, NULL) == 0);
	cr_expect(eq(sz, strv_length(addresses), 0));

	/* Nothing by itself: no solicitation, no listener report. */
	cr_expect(eq(int, poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 300), 0));
	cr_expect(lt(int, (int)read(fd, frame, sizeof(frame)), 0));

	cr_expect(eq(int, link_tap_open(netns_fd, "pjt-unit0", 1400, &second, &ifindex, &err), -EBUSY));
	cr_expect(eq(int, second, -1));
	close(fd);
	free(steal_ptr(links));
	cr_assert(link_list(netns_fd, &links, &n, NULL) == 0);
	cr_expect(find(links, n, "pjt-unit0") == NULL);
}

Test(link, a_tap_has_one_of_our_names)
{
	static const char *const bad[] = {"eth7", "pjt-0123456789ab", "pjt-a/b", "pjt-%d", ""};
	int fd = -1, ifindex;

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		_cleanup_err_ struct err *err = NULL;

		cr_expect(eq(int, link_tap_open(netns_fd, bad[i], 1500, &fd, &ifindex, &err), -EINVAL),
			"%s", bad[i]);
		cr_expect(strstr(err_text(err), bad[i]) != NULL);
	}
	cr_expect(eq(int, fd, -1));
}

Test(link, tcx_is_tried_for_real)
{
	_cleanup_err_ struct err *err = NULL;
	int fd = -1;
	int r = tcx_supported(&err);

	if (r < 0) {
		cr_expect(eq(int, r, -EOPNOTSUPP));
		cr_expect(err != NULL);
		cr_skip_test("%s", err_text(err));
	}
	cr_expect(eq(int, tcx_supported(NULL), 0));
	cr_expect(eq(int, tcx_attach(-1, 0, TCX_INGRESS, &fd, NULL), -EINVAL));
	cr_expect(lt(int, tcx_attach(-1, 1, TCX_INGRESS, &fd, NULL), 0));
	cr_expect(eq(int, fd, -1));
}

/* Where no right is given the words name it. */
Test(link, tcx_without_rights_names_what_is_missing)
{
	pid_t child = fork();
	int status;

	cr_assert(ge(int, child, 0));
	if (child == 0) {
		_cleanup_err_ struct err *err = NULL;

		if (setuid(65534) < 0)
			_exit(2);
		_exit(tcx_supported(&err) == -EOPNOTSUPP &&
			strstr(err_text(err), "CAP_NET_ADMIN") ? 0 : 1);
	}
	cr_assert(eq(int, waitpid(child, &status, 0), child));
	cr_expect(status == 0, "status %d", status);
}
