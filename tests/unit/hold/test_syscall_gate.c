#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "hold/syscall_gate.h"

#define DELAY_NS (60 * NS_PER_MS)

/* Shared with the child: what it was asked and how it went. */
struct board {
	atomic_int ask;			/* see act() */
	atomic_int done, result, code, continued;
	atomic_ulong took_ns;
};

static struct board *board;
static char folder[64], outside[80];

static void on_continue(int signal)
{
	(void)signal;
	atomic_fetch_add(&board->continued, 1);
}

static long call(int what, int inside_fd, int outside_fd)
{
	switch (what) {
	case 'w':
		return pwrite(outside_fd, "x", 1, 0);
	case 'W':
		return pwrite(inside_fd, "xyz", 3, 0);
	case 'a':
		return fallocate(inside_fd, 0, 0, 8192);
	case 'r':
		return sync_file_range(inside_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	default:
		return fdatasync(inside_fd);
	}
}

static void act(int what, int inside_fd, int outside_fd)
{
	uint64_t start = now_ns();
	long r;

	errno = 0;
	r = call(what, inside_fd, outside_fd);
	atomic_store(&board->took_ns, now_ns() - start);
	atomic_store(&board->result, (int)r);
	atomic_store(&board->code, r < 0 ? errno : 0);
	atomic_fetch_add(&board->done, 1);
}

static pid_t child_start(void)
{
	char path[128];
	int in, out;
	pid_t pid;

	snprintf(folder, sizeof(folder), "/tmp/pj-gates-unit-%d", getpid());
	cr_assert_eq(mkdir(folder, 0700), 0);
	snprintf(path, sizeof(path), "%s/f", folder);
	in = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	snprintf(outside, sizeof(outside), "%s.out", folder);
	out = open(outside, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(in >= 0 && out >= 0);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = fork();
	if (pid != 0) {
		close(in);
		close(out);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGCONT, on_continue);
	for (;;) {
		int what = atomic_exchange(&board->ask, 0);

		if (what == 'F' && fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			act('f', in, out);
			_exit(0);
		} else if (what && what != 'F') {
			act(what, in, out);
		}
		usleep(200);
	}
}

static void child_end(pid_t pid)
{
	char path[128];

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	snprintf(path, sizeof(path), "%s/f", folder);
	unlink(path);
	unlink(outside);
	rmdir(folder);
}

/* ms that the call took. */
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

static struct syscall_gate *gate_start(pid_t pid, const struct gate_effect *effect,
	unsigned operations)
{
	const struct gate_filter filter = {.operations = operations};
	struct syscall_gate_tree tree = {.class = DISK_WAL};
	_cleanup_err_ struct err *e = NULL;
	struct syscall_gate *g = NULL;
	struct proc_id id;
	struct stat s;
	size_t n_new;

	cr_assert_eq(stat(folder, &s), 0);
	tree.inode = s.st_ino;
	tree.device = (uint64_t)major(s.st_dev) << 20 | minor(s.st_dev);
	cr_assert_eq(proc_identify(pid, &id, NULL), 0);
	cr_assert_eq(syscall_gate_new(&(struct syscall_gate_plan){
		.effect = effect, .filter = &filter, .postmaster = pid, .trees = &tree, .n_trees = 1,
		.classes = 1U << DISK_WAL}, &g, &e), 0, "%s", err_text(e));
	cr_assert_eq(syscall_gate_seize(g, &id, 1, &n_new, &e), 0, "%s", err_text(e));
	cr_assert_eq(syscall_gate_attach(g, &e), 0, "%s", err_text(e));
	return g;
}

static bool skipped(void)
{
	if (geteuid() == 0)
		return false;
	cr_skip_test("needs root");
	return true;
}

Test(syscall_gate, holds_until_due)
{
	const struct gate_effect effect = {.delay = {.delay_ns = DELAY_NS, .loss_ppm = 1000000}};
	struct gate_counts c;
	struct syscall_gate *g;
	pid_t pid;
	double ms;

	if (skipped())
		return;
	pid = child_start();
	g = gate_start(pid, &effect, 1U << DISK_FDATASYNC | 1U << DISK_WRITE);
	cr_expect_lt(ask('f'), 50, "not fired");
	syscall_gate_fire(g, boot_ns() + 60 * NS_PER_S);
	ms = ask('f');
	cr_expect(ms >= 60 && ms < 1000, "fdatasync took %.1f ms", ms);
	cr_expect_eq(atomic_load(&board->result), 0);
	ms = ask('W');
	cr_expect(ms >= 60, "write took %.1f ms", ms);
	cr_expect_eq(atomic_load(&board->result), 3);
	cr_expect_lt(ask('w'), 50, "a file elsewhere");
	ms = ask('F');
	cr_expect(ms >= 60, "a child that was born later: %.1f ms", ms);
	cr_expect_eq(atomic_load(&board->continued), 0, "the signal is ours");
	kill(pid, SIGCONT);
	for (int i = 0; i < 2000 && !atomic_load(&board->continued); i++)
		usleep(1000);
	cr_expect_eq(atomic_load(&board->continued), 1, "somebody else's is passed on");
	syscall_gate_counts(g, &c);
	cr_expect_eq(c.delayed, 3);
	cr_expect_eq(c.operations[DISK_FDATASYNC], 2);
	cr_expect_eq(c.classes[DISK_WAL], 3);
	cr_expect_eq(syscall_gate_missed(g), 0);
	syscall_gate_free(g);
	cr_expect_lt(ask('f'), 50, "freed");
	child_end(pid);
}

Test(syscall_gate, changes_the_result)
{
	const struct gate_effect effect = {.delay = {.loss_ppm = 1000000}, .code = ENOSPC};
	struct syscall_gate *g;
	pid_t pid;

	if (skipped())
		return;
	pid = child_start();
	g = gate_start(pid, &effect, 1U << DISK_WRITE);
	syscall_gate_fire(g, boot_ns() + 60 * NS_PER_S);
	ask('W');
	cr_expect_eq(atomic_load(&board->result), -1);
	cr_expect_eq(atomic_load(&board->code), ENOSPC);
	ask('f');
	cr_expect_eq(atomic_load(&board->result), 0, "not asked for");
	ask('w');
	cr_expect_eq(atomic_load(&board->result), 1, "not there");
	syscall_gate_free(g);
	ask('W');
	cr_expect_eq(atomic_load(&board->result), 3);
	child_end(pid);
}

Test(syscall_gate, allocating_writes_and_beginning_to_flush_flushes)
{
	const struct gate_effect effect = {.delay = {.loss_ppm = 1000000}, .code = EIO};
	struct syscall_gate *g;
	struct gate_counts c;
	pid_t pid;

	if (skipped())
		return;
	pid = child_start();
	ask('a');
	cr_assert_eq(atomic_load(&board->result), 0, "a file system that allocates");
	g = gate_start(pid, &effect, 1U << DISK_WRITE);
	syscall_gate_fire(g, boot_ns() + 60 * NS_PER_S);
	ask('a');
	cr_expect_eq(atomic_load(&board->code), EIO);
	ask('r');
	cr_expect_eq(atomic_load(&board->code), 0, "no write");
	syscall_gate_free(g);
	g = gate_start(pid, &effect, 1U << DISK_FSYNC);
	syscall_gate_fire(g, boot_ns() + 60 * NS_PER_S);
	ask('a');
	cr_expect_eq(atomic_load(&board->code), 0, "no flush");
	ask('r');
	cr_expect_eq(atomic_load(&board->code), EIO);
	for (int i = 0; i < 2000; i++) {
		syscall_gate_counts(g, &c);
		if (c.operations[DISK_FSYNC])
			break;
		usleep(1000);
	}
	cr_expect_eq(c.operations[DISK_FSYNC], 1);
	syscall_gate_free(g);
	child_end(pid);
}

Test(syscall_gate, is_inert_after_its_deadline_and_lets_go_when_freed)
{
	const struct gate_effect effect = {.delay = {.delay_ns = 60 * NS_PER_S, .loss_ppm = 1000000}};
	struct syscall_gate *g;
	pid_t pid;
	double ms;

	if (skipped())
		return;
	pid = child_start();
	g = gate_start(pid, &effect, 1U << DISK_FDATASYNC);
	syscall_gate_fire(g, boot_ns() + 300 * NS_PER_MS);
	ms = ask('f');
	cr_expect(ms > 150 && ms < 5000, "held until the deadline, %.1f ms", ms);
	cr_expect_lt(ask('f'), 50, "past it");
	syscall_gate_fire(g, boot_ns() + 60 * NS_PER_S);
	atomic_store(&board->ask, 'f');
	usleep(100000);
	ms = (double)atomic_load(&board->done);
	syscall_gate_free(g);
	for (int i = 0; i < 3000 && atomic_load(&board->done) == (int)ms; i++)
		usleep(1000);
	cr_expect_eq(atomic_load(&board->done), (int)ms + 1, "freed, and it went on");
	child_end(pid);
}

Test(syscall_gate, hits_a_share)
{
	const struct gate_effect effect = {.delay = {.loss_ppm = 500000}, .code = EIO};
	struct syscall_gate *g;
	struct gate_counts c;
	unsigned failed = 0;
	pid_t pid;

	if (skipped())
		return;
	pid = child_start();
	g = gate_start(pid, &effect, 1U << DISK_WRITE);
	syscall_gate_fire(g, boot_ns() + 60 * NS_PER_S);
	for (int i = 0; i < 200; i++) {
		ask('W');
		failed += atomic_load(&board->result) < 0;
	}
	cr_expect(failed > 60 && failed < 140, "%u of 200 failed", failed);
	for (int i = 0; i < 2000; i++) {
		syscall_gate_counts(g, &c);
		if (c.failed == failed)
			break;
		usleep(1000);
	}
	cr_expect_eq(c.failed, failed);
	cr_expect_eq(c.seen, failed, "the others were never stopped");
	syscall_gate_free(g);
	child_end(pid);
}

Test(syscall_gate, cannot_fail_an_open)
{
	const struct gate_effect effect = {.code = EIO};
	const struct gate_filter filter = {.operations = 1U << DISK_OPEN};
	struct syscall_gate *g = NULL;

	cr_expect_eq(syscall_gate_new(&(struct syscall_gate_plan){
		.effect = &effect, .filter = &filter, .postmaster = getpid()}, &g, NULL), -EOPNOTSUPP);
}
