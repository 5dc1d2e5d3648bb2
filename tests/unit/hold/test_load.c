/*
 * What workers do, watched from outside: each in a child of the test, which ends it (by leaving, so that it may be counted,
 * where what it does for ever was seen to go on).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "hold/load.h"

#define KIB 1024UL
#define MIB (1024 * KIB)

typedef void (*work)(struct worker_page *page, size_t index, const void *argument);

struct child {
	pid_t pid;
	struct worker_page *page;
};

static void leave(int signal)
{
	(void)signal;
	_exit(7);
}

/* fd becomes its WORKER_FD. */
static struct child begin(work run, const void *argument, int fd, size_t index)
{
	struct child c = {.page = mmap(NULL, sizeof(*c.page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)};

	cr_assert_neq((void *)c.page, MAP_FAILED);
	c.pid = fork();
	cr_assert_geq(c.pid, 0);
	if (c.pid == 0) {
		signal(SIGTERM, leave);
		alarm(60);
		if (fd >= 0 && fd != WORKER_FD && dup2(fd, WORKER_FD) < 0)
			_exit(1);
		run(c.page, index, argument);
		_exit(0);
	}
	return c;
}

/* It goes on for ever, or it had ended by itself: then 0 is its code. */
static void end(struct child *c, int code)
{
	int status;

	if (code)
		kill(c->pid, SIGTERM);
	cr_assert_eq(waitpid(c->pid, &status, 0), c->pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == code, "status %x, not %d", status, code);
	munmap(c->page, sizeof(*c->page));
}

#define COMES(condition)                                                                            \
	do {                                                                                        \
		uint64_t until = now_ns() + 30 * NS_PER_S;                                          \
		while (!(condition) && now_ns() < until)                                            \
			usleep(2000);                                                               \
		cr_assert(condition, "never: %s", #condition);                                      \
	} while (0)

static int file_of(const char *text)
{
	int fd = memfd_create("stat", 0);

	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	return fd;
}

static void change(int fd, const char *text)
{
	cr_assert_eq(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
	cr_assert_eq(ftruncate(fd, (off_t)strlen(text)), 0);
}

TestSuite(load, .timeout = 110);

Test(load, cpu_in_slices)
{
	const struct load_cpu all = {.share_ppm = 1000000}, little = {.share_ppm = 50000};
	uint64_t start = now_ns();
	struct child c = begin(load_cpu, &little, -1, 0), d;

	COMES(atomic_load(&c.page->operations) >= 10);
	/* Each of 20 ms, of which it is busy for one. */
	cr_expect_geq(now_ns() - start, 9 * 20 * NS_PER_MS);
	cr_expect_gt(atomic_load(&c.page->cpu_ns), 0);
	cr_expect_leq(atomic_load(&c.page->cpu_ns), (now_ns() - start) / 2);
	end(&c, 7);
	d = begin(load_cpu, &all, -1, 0);
	COMES(atomic_load(&d.page->cpu_ns) >= 60 * NS_PER_MS);
	end(&d, 7);
}

Test(load, memory_as_much_as_asked)
{
	const struct load_memory at_once = {.bytes = 5 * MIB / 2, .limit_bytes = UINT64_MAX};
	const struct load_memory slowly = {.bytes = 2 * MIB, .rate_bytes_per_s = 8 * MIB, .limit_bytes = 64 * MIB};
	int fd = file_of("anon 4096\nshmem 0\n");
	struct child c = begin(load_memory, &at_once, fd, 0);
	uint64_t start;

	COMES(atomic_load(&c.page->flags) & LOAD_MEMORY_REACHED);
	cr_expect_eq(atomic_load(&c.page->bytes), at_once.bytes);
	cr_expect_eq(atomic_load(&c.page->operations), 3, "2.5 MiB in steps of one");
	end(&c, 7);
	start = now_ns();
	c = begin(load_memory, &slowly, fd, 0);
	COMES(atomic_load(&c.page->flags) & LOAD_MEMORY_REACHED);
	cr_expect_geq(now_ns() - start, 200 * NS_PER_MS, "8 MiB a second");
	cr_expect_eq(atomic_load(&c.page->flags), LOAD_MEMORY_REACHED);
	end(&c, 7);
	close(fd);
}

/* In both versions of control groups, by what the kernel cannot take back. */
Test(load, memory_stays_below_the_limit)
{
	static const char *const narrow[] = {
		"anon 900000\nfile 99999999\nshmem 100000\nslab 50000\nkernel_stack 1000\npagetables 1000\n",
		"cache 99999999\ntotal_cache 99999999\ntotal_rss 900000\ntotal_shmem 148000\n"};
	static const char *const wide[] = {"anon 1000\nfile 99999999\n", "cache 1\ntotal_rss 1000\ntotal_shmem 0\n"};
	const struct load_memory load = {.bytes = 2 * MIB, .limit_bytes = 4 * MIB, .margin_bytes = 2200000};

	for (size_t i = 0; i < ELEMENTS(narrow); i++) {
		int fd = file_of(narrow[i]);
		struct child c = begin(load_memory, &load, fd, 0);

		COMES(atomic_load(&c.page->flags) == LOAD_MEMORY_NARROW);
		usleep(30000);
		cr_expect_eq(atomic_load(&c.page->bytes), 0);
		change(fd, wide[i]);
		COMES(atomic_load(&c.page->flags) & LOAD_MEMORY_REACHED);
		cr_expect_eq(atomic_load(&c.page->bytes), load.bytes);
		end(&c, 7);
		close(fd);
	}
}

Test(load, memory_until_the_kernel_kills)
{
	const struct load_memory load = {.bytes = 3 * MIB, .oom = true, .limit_bytes = MIB};
	int fd = file_of("low 0\noom 0\noom_kill 3\n");
	struct child c = begin(load_memory, &load, fd, 0);

	COMES(atomic_load(&c.page->flags) == LOAD_MEMORY_REACHED);
	cr_expect_eq(atomic_load(&c.page->bytes), load.bytes, "no limit holds it");
	change(fd, "low 0\noom 1\noom_kill 4\n");
	COMES(atomic_load(&c.page->flags) & LOAD_MEMORY_KILLED);
	cr_expect_eq(atomic_load(&c.page->bytes), 0, "it is given back");
	end(&c, 7);
	close(fd);
}

static char path[64];
static int disk_fd = -1;

static void make_file(void)
{
	snprintf(path, sizeof(path), "/tmp/pj-load-XXXXXX");
	disk_fd = mkstemp(path);
	cr_assert_geq(disk_fd, 0);
	unlink(path);
}

Test(load, disk_by_every_pattern, .init = make_file)
{
	struct load_disk load = {.size_bytes = 64 * KIB, .block_bytes = 4 * KIB, .workers = 2};
	struct stat st;

	for (load.pattern = 0; load.pattern < LOAD_PATTERN_MAX; load.pattern++) {
		struct child c = begin(load_disk, &load, disk_fd, 1);

		COMES(atomic_load(&c.page->operations) >= 20);
		cr_expect_eq(atomic_load(&c.page->errors), 0);
		end(&c, 7);
		cr_assert_eq(fstat(disk_fd, &st), 0);
		cr_expect_gt(st.st_size, (off_t)(32 * KIB), "the second worker's part is the second one");
		cr_expect_leq(st.st_size, (off_t)(64 * KIB));
		if (load.pattern == LOAD_READ)
			cr_expect_eq(st.st_size, (off_t)(64 * KIB), "there is something to read");
	}
	close(disk_fd);
}

Test(load, disk_no_faster_than_asked, .init = make_file)
{
	const struct load_disk load = {.pattern = LOAD_SEQUENTIAL, .size_bytes = 64 * KIB, .block_bytes = 4 * KIB,
		.rate_bytes_per_s = 200 * KIB, .workers = 1};
	uint64_t start = now_ns();
	struct child c = begin(load_disk, &load, disk_fd, 0);

	COMES(atomic_load(&c.page->bytes) >= 60 * KIB);
	cr_expect_geq(now_ns() - start, 280 * NS_PER_MS);
	cr_expect_eq(atomic_load(&c.page->bytes) % (4 * KIB), 0);
	end(&c, 7);
	close(disk_fd);
}

/* The errors are counted, and it goes on: the disk may come back. */
Test(load, disk_that_fails)
{
	struct load_disk load = {.pattern = LOAD_RANDOM, .size_bytes = 64 * KIB, .block_bytes = 4 * KIB, .workers = 1};
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct child c = begin(load_disk, &load, full, 0);

	COMES(atomic_load(&c.page->errors) >= 3);
	cr_expect_eq(atomic_load(&c.page->operations), 0);
	cr_expect_eq(atomic_load(&c.page->bytes), 0);
	end(&c, 7);
	load.pattern = LOAD_READ;
	c = begin(load_disk, &load, null, 0);
	COMES(atomic_load(&c.page->errors) >= 3);
	cr_expect_eq(atomic_load(&c.page->flags) & LOAD_DISK_PREPARED, 0);
	end(&c, 7);
	load.workers = 17;	/* more than there are blocks */
	c = begin(load_disk, &load, null, 0);
	end(&c, 0);
	close(full);
	close(null);
}

Test(load, what_cannot_begin_says_why)
{
	const struct load_memory much = {.bytes = 1UL << 60, .limit_bytes = UINT64_MAX};
	const struct load_disk none = {.size_bytes = 4 * KIB, .block_bytes = 4 * KIB, .workers = 2};
	struct worker_page page = {0};

	load_memory(&page, 0, &much);
	cr_expect_eq(atomic_load(&page.failed), ENOMEM);
	atomic_store(&page.failed, 0);
	load_disk(&page, 0, &none);
	cr_expect_eq(atomic_load(&page.failed), EINVAL);
}
