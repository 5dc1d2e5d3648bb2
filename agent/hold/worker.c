#include "hold/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "kernel/proc.h"

#define PAGE_BYTES  4096
#define READY_NS    (5 * NS_PER_S)
#define END_NS	    (100 * NS_PER_MS)
#define VERIFY_NS   (2 * NS_PER_S)
#define LOOK_US	    1000

enum state { STATE_NEW, STATE_READY, STATE_GO };

struct worker {
	struct proc_id id;
	bool reaped;
	int status;	/* wait(2), once it is reaped */
};

struct workers {
	size_t count;
	struct worker list[WORKERS_MAX];
	char *pages;	/* PAGE_BYTES each */
	size_t mapped;
};

static struct worker_page *page_of(const struct workers *w, size_t index)
{
	return (struct worker_page *)(void *)(w->pages + index * PAGE_BYTES);
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *wait)
{
	return syscall(SYS_futex, word, operation, value, wait, NULL, 0);
}

/* What the agent set for itself must not work in its worker. */
static void drop_signals(void)
{
	struct sigaction plain = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		sigaction(s, &plain, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void drop_descriptors(int keep)
{
	unsigned first = 0;

	if (keep >= 0 && (keep == WORKER_FD || dup2(keep, WORKER_FD) == WORKER_FD)) {
		syscall(SYS_close_range, 0, WORKER_FD - 1, 0);
		first = WORKER_FD + 1;
	}
	syscall(SYS_close_range, first, ~0U, 0);
}

static void set_oom_score(const char *text)
{
	int fd = text ? open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC) : -1;

	if (fd >= 0) {
		(void)!write(fd, text, strlen(text));
		close(fd);
	}
}

/* Only signal-safe calls: other threads of the agent may have held any lock. */
static void __attribute__((noreturn)) worker_main(const struct worker_job *job, size_t index,
	struct worker_page *page, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)	/* it died before that */
		_exit(0);
	prctl(PR_SET_NAME, WORKER_NAME);
	setsid();
	set_oom_score(job->oom_score_adj);
	drop_descriptors(job->fd);
	drop_signals();
	atomic_store(&page->state, STATE_READY);
	futex(&page->state, FUTEX_WAKE, INT_MAX, NULL);
	while (atomic_load(&page->state) != STATE_GO)
		futex(&page->state, FUTEX_WAIT, STATE_READY, NULL);
	job->run(page, index, job->argument);
	_exit(0);
}

static int wait_ready(const struct workers *w, size_t index, struct err **err)
{
	const struct timespec step = {.tv_nsec = 50 * (long)NS_PER_MS};
	struct worker_page *page = page_of(w, index);
	uint64_t end = now_ns() + READY_NS;

	while (atomic_load(&page->state) == STATE_NEW) {
		if (now_ns() > end)
			return err_set(err, ETIMEDOUT, "a worker does not begin");
		futex(&page->state, FUTEX_WAIT, STATE_NEW, &step);
	}
	return 0;
}

static int move_to(pid_t pid, const char *folder, struct err **err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *path = NULL;
	char text[24];

	if (asprintf(&path, "%s/cgroup.procs", folder) < 0) {
		path = NULL;
		return err_errno(err, ENOMEM, "name a control group");
	}
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	snprintf(text, sizeof(text), "%d", (int)pid);
	if (write(fd, text, strlen(text)) < 0)
		return err_errno(err, errno, "put a worker into %s", folder);
	return 0;
}

static int start_one(struct workers *w, const struct worker_job *job, char *const *groups,
	struct err **err)
{
	struct worker *x = &w->list[w->count];
	pid_t parent = getpid(), pid = fork();
	int r;

	if (pid < 0)
		return err_errno(err, errno, "start a worker");
	if (pid == 0)
		worker_main(job, w->count, page_of(w, w->count), parent);
	x->id.pid = pid;
	w->count++;
	r = proc_identify(pid, &x->id, err);
	if (r >= 0)
		r = wait_ready(w, w->count - 1, err);
	for (size_t i = 0; r >= 0 && groups && groups[i]; i++)
		r = move_to(pid, groups[i], err);
	return r;
}

int workers_new(const struct worker_job *job, char *const *groups, struct workers **ret,
	struct err **err)
{
	_cleanup_(workers_freep) struct workers *w = calloc(1, sizeof(*w));
	int r;

	if (job->count == 0 || job->count > WORKERS_MAX)
		return err_set(err, EINVAL, "%zu workers: allowed are 1 to %d", job->count, WORKERS_MAX);
	if (!w)
		return err_errno(err, ENOMEM, "start workers");
	w->mapped = job->count * PAGE_BYTES;
	w->pages = mmap(NULL, w->mapped, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w->pages == MAP_FAILED) {
		w->pages = NULL;
		return err_errno(err, errno, "start workers");
	}
	for (size_t i = 0; i < job->count; i++) {
		r = start_one(w, job, groups, err);
		if (r < 0)
			return r;
	}
	*ret = steal_ptr(w);
	return 0;
}

void workers_go(struct workers *w)
{
	for (size_t i = 0; i < w->count; i++) {
		atomic_store(&page_of(w, i)->state, STATE_GO);
		futex(&page_of(w, i)->state, FUTEX_WAKE, INT_MAX, NULL);
	}
}

size_t workers_count(const struct workers *w)
{
	return w->count;
}

const struct worker_page *workers_page(const struct workers *w, size_t index)
{
	return page_of(w, index);
}

pid_t workers_pid(const struct workers *w, size_t index)
{
	return w->list[index].id.pid;
}

static bool reap(struct worker *x)
{
	if (!x->reaped && waitpid(x->id.pid, &x->status, WNOHANG) == x->id.pid)
		x->reaped = true;
	return x->reaped;
}

enum worker_end workers_look(struct workers *w, size_t index, int *ret_signal)
{
	struct worker *x = &w->list[index];

	if (!reap(x))
		return WORKER_RUNS;
	if (!WIFSIGNALED(x->status))
		return WORKER_RETURNED;
	*ret_signal = WTERMSIG(x->status);
	return WORKER_KILLED;
}

void workers_free(struct workers *w)
{
	uint64_t end = now_ns() + END_NS;

	/* Not reaped, so the pid is still theirs. */
	for (size_t i = 0; i < w->count; i++)
		if (!reap(&w->list[i]))
			kill(w->list[i].id.pid, SIGKILL);
	for (size_t i = 0; i < w->count; i++)
		while (!reap(&w->list[i]) && now_ns() < end)
			usleep(LOOK_US);
	if (w->pages)
		munmap(w->pages, w->mapped);
	free(w);
}

cJSON *workers_record(const struct workers *w)
{
	cJSON *list = json_array();

	for (size_t i = 0; i < w->count; i++) {
		cJSON *item = json_object();

		json_add_int(item, "pid", w->list[i].id.pid);
		json_add_uint(item, "start_ticks", w->list[i].id.start_ticks);
		json_append(list, item);
	}
	return list;
}

/* One that workers_free() did not wait for. Its pid may be another's by now. */
static void reap_late(const struct proc_id *id)
{
	struct proc_stat s;

	if (proc_read_stat(id->pid, &s, NULL) == 0 && s.id.start_ticks == id->start_ticks &&
	    s.state == 'Z' && s.ppid == getpid())
		waitpid(id->pid, NULL, WNOHANG);
}

int workers_verify(const cJSON *list, struct err **err)
{
	static const struct json_field fields[] = {
		{"pid", JSON_PID, offsetof(struct proc_id, pid), .mandatory = true},
		{"start_ticks", JSON_UINT64, offsetof(struct proc_id, start_ticks), .mandatory = true},
		JSON_FIELD_END,
	};
	uint64_t end = now_ns() + VERIFY_NS;
	const cJSON *item;

	if (!cJSON_IsArray(list))
		return err_set(err, EBADMSG, "workers: expected an array");
	cJSON_ArrayForEach(item, list) {
		struct proc_id id = {0};
		int r = json_dispatch(item, fields, &id, JSON_REFUSE_UNKNOWN, err);

		if (r < 0)
			return err_wrap(err, EBADMSG, "workers");
		while (proc_is_alive(&id)) {
			if (now_ns() > end)
				return err_set(err, EBUSY, "worker %d has not ended yet", id.pid);
			usleep(LOOK_US);
		}
		reap_late(&id);
	}
	return 0;
}
