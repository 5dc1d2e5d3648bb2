#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "hold/file_gate.h"

#define DELAY_NS (60 * NS_PER_MS)

/* Shared with the child, which lives in a mount namespace of its own. */
struct board {
	atomic_int ask, done, result, code, ready;
	atomic_ulong took_ns;
};

static struct board *board;
static char path[64];

#define MANY 4000

/*
 * 'o' opens anew and reads, 'm' many times; 'r' reads what was open before everything, 'w' opens anew
 * and writes, 'a' allocates.
 */
static void act(int what, int old_fd)
{
	uint64_t start = now_ns();
	char buf[4];
	int fd = what == 'r' ? old_fd : open(path, O_RDWR | O_CLOEXEC);
	int code = errno;
	long r = fd < 0 ? -1 : what == 'w' ? pwrite(fd, "data", 4, 0) :
		 what == 'a' ? fallocate(fd, 0, 0, 8192) : pread(fd, buf, 4, 0);

	for (int i = 0; what == 'm' && i < MANY && r == 4; i++)
		r = pread(fd, buf, 4, 0);
	if (fd >= 0)
		code = errno;
	atomic_store(&board->took_ns, now_ns() - start);
	atomic_store(&board->result, (int)r);
	atomic_store(&board->code, r < 0 ? code : 0);
	atomic_fetch_add(&board->done, 1);
	if (fd >= 0 && fd != old_fd)
		close(fd);
}

static pid_t child_start(void)
{
	pid_t pid;
	int fd;

	snprintf(path, sizeof(path), "/tmp/pj-gates-file-%d", getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert(fd >= 0 && write(fd, "text", 4) == 4);
	close(fd);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			_exit(1);
		fd = open(path, O_RDWR | O_CLOEXEC);
		atomic_store(&board->ready, 1);
		for (;;) {
			int what = atomic_exchange(&board->ask, 0);

			if (what)
				act(what, fd);
			usleep(200);
		}
	}
	for (int i = 0; i < 5000 && !atomic_load(&board->ready); i++)
		usleep(1000);
	cr_assert(atomic_load(&board->ready));
	return pid;
}

static void child_end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlink(path);
}

static double ask(int what)
{
	int done = atomic_load(&board->done);
	uint64_t deadline = now_ns() + 10 * NS_PER_S;

	atomic_store(&board->ask, what);
	while (atomic_load(&board->done) == done && now_ns() < deadline)
		usleep(100);
	cr_assert_neq(atomic_load(&board->done), done, "call %c did not end", what);
	return (double)atomic_load(&board->took_ns) / (double)NS_PER_MS;
}

static bool path_matches(void *data, const char *given, enum disk_class *ret)
{
	(void)data;
	*ret = DISK_DATA;
	return strcmp(given, path) == 0;
}

/* NULL, and the test skipped, where this kernel or file system has no such events. */
static struct file_gate *gate_start(pid_t pid, const struct gate_effect *effect, unsigned operations)
{
	const struct gate_filter filter = {.operations = operations, .path = path_matches};
	_cleanup_err_ struct err *e = NULL;
	_cleanup_close_ int fd = -1;
	struct file_gate *g = NULL;
	char root[64];
	int r;

	r = file_gate_supported(&e);
	snprintf(root, sizeof(root), "/proc/%d/root/tmp", pid);
	fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	if (r == 0)
		r = file_gate_new(effect, &filter, &fd, 1, &g, &e);
	if (r == -EOPNOTSUPP) {
		child_end(pid);
		cr_skip_test("%s", err_text(e));
	}
	cr_assert_eq(r, 0, "%s", err_text(e));
	/* The descriptor must live until the marks are set. */
	cr_assert_eq(ask('o') < 50, true, "not fired");
	cr_assert_eq(file_gate_fire(g, boot_ns() + 60 * NS_PER_S, &e), 0, "%s", err_text(e));
	return g;
}

Test(file_gate, holds_reads_of_the_namespace_alone)
{
	const struct gate_effect effect = {.delay = {.delay_ns = DELAY_NS, .loss_ppm = 1000000}};
	_cleanup_close_ int fd = -1;
	struct gate_counts c;
	struct file_gate *g;
	uint64_t start;
	char buf[4];
	pid_t pid;
	double ms;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	pid = child_start();
	g = gate_start(pid, &effect, 1U << DISK_READ);
	ms = ask('o');
	cr_expect(ms >= 60 && ms < 1000, "read took %.1f ms", ms);
	cr_expect_eq(atomic_load(&board->result), 4);
	cr_expect_lt(ask('w'), 50, "a write, which was not asked for");
	cr_expect_lt(ask('r'), 50, "opened before the mark: the kernel does not show it");
	start = now_ns();
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_expect_eq(pread(fd, buf, 4, 0), 4);
	cr_expect_lt(now_ns() - start, 50 * NS_PER_MS, "through the host's own mount");
	file_gate_counts(g, &c);
	cr_expect_eq(c.delayed, 1);
	cr_expect_eq(c.operations[DISK_READ], 1);
	cr_expect_eq(c.bytes, (uint64_t)sysconf(_SC_PAGESIZE), "the kernel tells whole pages: %lu", c.bytes);
	file_gate_free(g);
	cr_expect_lt(ask('o'), 50, "freed");
	child_end(pid);
}

Test(file_gate, refuses)
{
	const struct gate_effect effect = {.delay = {.loss_ppm = 1000000}, .code = EDQUOT};
	struct file_gate *g;
	pid_t pid;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	pid = child_start();
	g = gate_start(pid, &effect, 1U << DISK_WRITE);
	ask('w');
	cr_expect_eq(atomic_load(&board->code), EDQUOT);
	ask('a');
	cr_expect_eq(atomic_load(&board->code), EDQUOT, "allocating is a write");
	ask('o');
	cr_expect_eq(atomic_load(&board->result), 4);
	file_gate_free(g);
	g = gate_start(pid, &effect, 1U << DISK_OPEN);
	ask('o');
	cr_expect_eq(atomic_load(&board->code), EDQUOT, "the open");
	ask('r');
	cr_expect_eq(atomic_load(&board->result), 4);
	file_gate_free(g);
	child_end(pid);
}

/* One now and then, among many that pass: each is let go when due, however the gate came by it. */
Test(file_gate, holds_one_among_many)
{
	const struct gate_effect effect = {
		.delay = {.delay_ns = 3 * NS_PER_MS, .loss_ppm = 3000, .seed = 5},
	};
	struct gate_counts c;
	struct file_gate *g;
	pid_t pid;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	pid = child_start();
	g = gate_start(pid, &effect, 1U << DISK_READ | 1U << DISK_WRITE);
	ask('m');
	cr_expect_eq(atomic_load(&board->result), 4);
	file_gate_counts(g, &c);
	cr_expect(c.delayed > 2 && c.delayed < 40, "%lu", c.delayed);
	cr_expect_geq(c.delay_min_ns, 3 * NS_PER_MS);
	cr_expect_eq(c.matched, MANY + 1, "%lu", c.matched);
	file_gate_free(g);
	child_end(pid);
}

Test(file_gate, lets_go_what_it_holds)
{
	const struct gate_effect effect = {.delay = {.delay_ns = 60 * NS_PER_S, .loss_ppm = 1000000}};
	struct file_gate *g;
	pid_t pid;
	int done;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	pid = child_start();
	g = gate_start(pid, &effect, 1U << DISK_READ | 1U << DISK_WRITE);
	done = atomic_load(&board->done);
	atomic_store(&board->ask, 'w');
	usleep(100000);
	cr_expect_eq(atomic_load(&board->done), done, "held");
	file_gate_free(g);
	for (int i = 0; i < 3000 && atomic_load(&board->done) == done; i++)
		usleep(1000);
	cr_expect_eq(atomic_load(&board->done), done + 1);
	cr_expect_eq(atomic_load(&board->result), 4);
	child_end(pid);
}

Test(file_gate, knows_what_it_can_fail_with)
{
	const struct gate_effect effect = {.code = EROFS};
	const struct gate_filter filter = {.operations = 1U << DISK_READ};
	struct file_gate *g = NULL;

	cr_expect_eq(file_gate_new(&effect, &filter, NULL, 0, &g, NULL), -EOPNOTSUPP);
	cr_expect(file_gate_can_fail_with(EIO));
	cr_expect_not(file_gate_can_fail_with(EROFS));
}
