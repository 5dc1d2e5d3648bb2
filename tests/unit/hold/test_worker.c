#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/clock.h"
#include "hold/load.h"
#include "hold/worker.h"
#include "kernel/proc.h"

#define MIB (1UL << 20)

static void count_up(struct worker_page *page, size_t index, const void *argument)
{
	atomic_store(&page->bytes, *(const uint64_t *)argument + index);
	for (;;) {
		atomic_fetch_add(&page->operations, 1);
		usleep(1000);
	}
}

static void fail_at_once(struct worker_page *page, size_t index, const void *argument)
{
	(void)index;
	(void)argument;
	atomic_store(&page->failed, ENOSPC);
}

static bool comes_to(const _Atomic uint64_t *value, uint64_t least)
{
	for (int i = 0; i < 5000; i++) {
		if (atomic_load(value) >= least)
			return true;
		usleep(1000);
	}
	return false;
}

static bool is_gone(pid_t pid)
{
	struct proc_stat s;

	for (int i = 0; i < 5000; i++) {
		if (proc_read_stat(pid, &s, NULL) < 0 || s.state == 'Z')
			return true;
		usleep(1000);
	}
	return false;
}

Test(worker, begins_when_told_and_ends_with_its_owner, .timeout = 30)
{
	const uint64_t base = 40;
	const struct worker_job job = {.count = 3, .fd = -1, .run = count_up, .argument = &base};
	_cleanup_json_ cJSON *record = NULL;
	struct proc_stat s;
	struct workers *w;
	pid_t pids[3];
	int signal;

	cr_assert_eq(workers_new(&job, NULL, &w, NULL), 0);
	cr_assert_eq(workers_count(w), 3);
	usleep(20000);
	for (size_t i = 0; i < 3; i++) {
		pids[i] = workers_pid(w, i);
		cr_expect_eq(atomic_load(&workers_page(w, i)->operations), 0, "it did not wait");
		cr_assert_eq(proc_read_stat(pids[i], &s, NULL), 0);
		cr_expect_str_eq(s.comm, WORKER_NAME);
		cr_expect_eq(s.ppid, getpid());
	}
	record = workers_record(w);
	cr_expect_eq(cJSON_GetArraySize(record), 3);
	workers_go(w);
	for (size_t i = 0; i < 3; i++) {
		cr_expect(comes_to(&workers_page(w, i)->operations, 3));
		cr_expect_eq(atomic_load(&workers_page(w, i)->bytes), base + i);
		cr_expect_eq(workers_look(w, i, &signal), WORKER_RUNS);
	}
	cr_expect_eq(workers_verify(record, NULL), -EBUSY);
	workers_free(w);
	cr_expect_eq(workers_verify(record, NULL), 0);
	for (size_t i = 0; i < 3; i++)
		cr_expect(is_gone(pids[i]));
}

Test(worker, has_no_descriptor_but_its_own, .timeout = 30)
{
	const struct worker_job job = {.count = 1, .fd = open("/dev/zero", O_RDONLY), .run = fail_at_once};
	char path[64], target[64] = "";
	struct dirent *entry;
	struct workers *w;
	size_t count = 0;
	DIR *dir;

	cr_assert_eq(workers_new(&job, NULL, &w, NULL), 0);
	snprintf(path, sizeof(path), "/proc/%d/fd", workers_pid(w, 0));
	dir = opendir(path);
	cr_assert_not_null(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	cr_expect_eq(count, 1);
	strcat(path, "/3");
	cr_assert_gt(readlink(path, target, sizeof(target) - 1), 0);
	cr_expect_str_eq(target, "/dev/zero");
	workers_free(w);
	close(job.fd);
}

Test(worker, how_it_ended_is_told, .timeout = 30)
{
	const struct worker_job job = {.count = 2, .fd = -1, .run = fail_at_once};
	struct workers *w;
	int signal = 0;

	cr_assert_eq(workers_new(&job, NULL, &w, NULL), 0);
	kill(workers_pid(w, 0), SIGKILL);
	cr_assert(is_gone(workers_pid(w, 0)));
	cr_expect_eq(workers_look(w, 0, &signal), WORKER_KILLED);
	cr_expect_eq(signal, SIGKILL);
	cr_expect_eq(workers_look(w, 0, &signal), WORKER_KILLED, "asked again");
	workers_go(w);
	cr_assert(is_gone(workers_pid(w, 1)));
	cr_expect_eq(workers_look(w, 1, &signal), WORKER_RETURNED);
	cr_expect_eq(atomic_load(&workers_page(w, 1)->failed), ENOSPC);
	workers_free(w);
}

Test(worker, dies_with_the_process_that_forked_it, .timeout = 30)
{
	const uint64_t base = 0;
	const struct worker_job job = {.count = 2, .fd = -1, .run = count_up, .argument = &base};
	pid_t pids[2], owner;
	int tell[2];

	cr_assert_eq(pipe(tell), 0);
	owner = fork();
	if (owner == 0) {
		struct workers *w;

		if (workers_new(&job, NULL, &w, NULL) < 0)
			_exit(1);
		workers_go(w);
		for (size_t i = 0; i < 2; i++)
			pids[i] = workers_pid(w, i);
		(void)!write(tell[1], pids, sizeof(pids));
		for (;;)
			pause();
	}
	cr_assert_eq(read(tell[0], pids, sizeof(pids)), sizeof(pids));
	kill(owner, SIGKILL);
	waitpid(owner, NULL, 0);
	for (int i = 0; i < 2; i++)
		cr_expect(is_gone(pids[i]));
}

Test(worker, a_group_that_is_none_is_an_error)
{
	const struct worker_job job = {.count = 1, .fd = -1, .run = fail_at_once};
	const struct worker_job none = {.count = 0, .fd = -1, .run = fail_at_once};
	char *groups[] = {(char *)"/tmp/no-such-group", NULL};
	struct workers *w;

	cr_expect_eq(workers_new(&job, groups, &w, NULL), -ENOENT);
	cr_expect_eq(workers_new(&none, NULL, &w, NULL), -EINVAL);
}

Test(worker, records_that_are_none)
{
	_cleanup_json_ cJSON *object = json_object(), *list = json_array();

	cr_expect_eq(workers_verify(NULL, NULL), -EBADMSG);
	cr_expect_eq(workers_verify(object, NULL), -EBADMSG);
	cr_expect_eq(workers_verify(list, NULL), 0);
	json_append(list, json_object());
	cr_expect_eq(workers_verify(list, NULL), -EBADMSG);
}

Test(load, cpu_keeps_its_share, .timeout = 30)
{
	const struct load_cpu load = {.share_ppm = 100000};
	const struct worker_job job = {.count = 1, .fd = -1, .run = load_cpu, .argument = &load};
	const struct worker_page *page;
	uint64_t start, used;
	struct workers *w;

	cr_assert_eq(workers_new(&job, NULL, &w, NULL), 0);
	page = workers_page(w, 0);
	workers_go(w);
	start = now_ns();
	cr_expect(comes_to(&page->operations, 20));
	used = atomic_load(&page->cpu_ns);
	cr_expect_gt(used, 0);
	/* Never more than a tenth, and one slice. */
	cr_expect_lt(used, (now_ns() - start) / 10 + 20 * NS_PER_MS);
	workers_free(w);
}

static void disk(enum load_disk_pattern pattern, size_t workers, uint64_t operations, uint64_t size)
{
	const struct load_disk load = {.pattern = pattern, .size_bytes = MIB, .block_bytes = 16384,
		.workers = workers};
	int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	const struct worker_job job = {.count = workers, .fd = fd, .run = load_disk, .argument = &load};
	struct workers *w;
	struct stat st;

	if (fd < 0)
		cr_skip_test("no O_TMPFILE in /tmp");
	cr_assert_eq(workers_new(&job, NULL, &w, NULL), 0);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_expect_eq(st.st_size, 0, "armed: nothing is written");
	workers_go(w);
	for (size_t i = 0; i < workers; i++) {
		const struct worker_page *p = workers_page(w, i);

		cr_expect(comes_to(&p->operations, operations));
		cr_expect_geq(atomic_load(&p->bytes) + 16384, atomic_load(&p->operations) * 16384);
		cr_expect_eq(atomic_load(&p->errors), 0);
	}
	workers_free(w);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_expect_leq((uint64_t)st.st_size, MIB, "a worker left its part");
	cr_expect_geq((uint64_t)st.st_size, size);
	close(fd);
}

Test(load, disk_sequential_fills_the_file, .timeout = 30)
{
	disk(LOAD_SEQUENTIAL, 2, 40, MIB);
}

Test(load, disk_random, .timeout = 30)
{
	disk(LOAD_RANDOM, 4, 20, MIB / 2);
}

Test(load, disk_fsync_storm, .timeout = 30)
{
	disk(LOAD_FSYNC_STORM, 1, 5, 5 * 16384);
}

Test(load, disk_read_writes_it_first, .timeout = 30)
{
	disk(LOAD_READ, 2, 10, MIB);
}

static int stat_file(const char *text)
{
	int fd = memfd_create("stat", 0);

	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	return fd;
}

Test(load, memory_is_taken_to_the_page, .timeout = 30)
{
	const struct load_memory load = {.bytes = 8 * MIB + 4096, .limit_bytes = UINT64_MAX};
	int fd = stat_file("anon 4096\n");
	const struct worker_job job = {.count = 1, .fd = fd, .run = load_memory, .argument = &load};
	struct workers *w;

	cr_assert_eq(workers_new(&job, NULL, &w, NULL), 0);
	workers_go(w);
	cr_expect(comes_to(&workers_page(w, 0)->flags, LOAD_MEMORY_REACHED));
	cr_expect_eq(atomic_load(&workers_page(w, 0)->bytes), 8 * MIB + 4096);
	workers_free(w);
	close(fd);
}

/* The file says what the group uses, whatever the worker takes. */
static void stops_near(const char *text)
{
	const struct load_memory load = {.bytes = 8 * MIB, .limit_bytes = 20 * MIB, .margin_bytes = 4 * MIB};
	int fd = stat_file(text);
	const struct worker_job job = {.count = 1, .fd = fd, .run = load_memory, .argument = &load};
	struct workers *w;

	cr_assert_eq(workers_new(&job, NULL, &w, NULL), 0);
	workers_go(w);
	cr_expect(comes_to(&workers_page(w, 0)->flags, LOAD_MEMORY_NARROW));
	cr_expect_eq(atomic_load(&workers_page(w, 0)->bytes), 0);
	workers_free(w);
	close(fd);
}

Test(load, memory_stops_before_the_limit_of_either_version, .timeout = 30)
{
	stops_near("anon 12582912\nfile 900000000\nshmem 4194304\n");
	stops_near("cache 900000000\nrss 1\ntotal_cache 900000000\ntotal_rss 12582912\ntotal_shmem 4194304\n");
}

Test(load, memory_is_given_back_after_a_kill, .timeout = 30)
{
	const struct load_memory load = {.bytes = 4 * MIB, .limit_bytes = UINT64_MAX, .oom = true};
	int fd = stat_file("low 0\noom 0\noom_kill 3\n");
	const struct worker_job job = {.count = 1, .fd = fd, .run = load_memory, .argument = &load};
	const struct worker_page *page;
	struct workers *w;

	cr_assert_eq(workers_new(&job, NULL, &w, NULL), 0);
	page = workers_page(w, 0);
	workers_go(w);
	cr_expect(comes_to(&page->flags, LOAD_MEMORY_REACHED));
	cr_expect_eq(atomic_load(&page->bytes), 4 * MIB);
	cr_assert_gt(pwrite(fd, "low 0\noom 1\noom_kill 4\n", 24, 0), 0);
	cr_expect(comes_to(&page->flags, LOAD_MEMORY_KILLED | LOAD_MEMORY_REACHED));
	cr_expect_eq(atomic_load(&page->bytes), 0);
	workers_free(w);
	close(fd);
}
