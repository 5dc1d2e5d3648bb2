#include "hold/syscall_gate.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "bpf/syscall_gate.h"
#include "core/cleanup.h"
#include "core/clock.h"
#include "hold/ptrace_hold.h"
#include "hold/queue.h"
#include "hold/syscall_regs.h"
#include "syscall_pick.skel.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* A timer's signal that comes just before waitid() is lost: it comes again. */
#define TIMER_AGAIN_NS (NS_PER_MS / 4)

static const struct {
	long call;
	enum disk_operation operation;
} calls[] = {
	{SYS_read, DISK_READ}, {SYS_pread64, DISK_READ}, {SYS_readv, DISK_READ},
	{SYS_preadv, DISK_READ}, {SYS_preadv2, DISK_READ},
	{SYS_write, DISK_WRITE}, {SYS_pwrite64, DISK_WRITE}, {SYS_writev, DISK_WRITE},
	{SYS_pwritev, DISK_WRITE}, {SYS_pwritev2, DISK_WRITE},
	/* How PostgreSQL 16 and later make a table longer. */
	{SYS_fallocate, DISK_WRITE},
	{SYS_fsync, DISK_FSYNC}, {SYS_fdatasync, DISK_FDATASYNC},
#ifdef SYS_sync_file_range
	/* How checkpointer and background writer begin a flush (checkpoint_flush_after). */
	{SYS_sync_file_range, DISK_FSYNC},
#endif
#ifdef SYS_open
	{SYS_open, DISK_OPEN},
#endif
	{SYS_openat, DISK_OPEN},
};

/* A thread that waits. */
struct held {
	pid_t tid;		/* 0: it has ended */
	uint64_t at_ns;
};

struct syscall_gate {
	struct gate gate;
	struct gate_filter filter;
	struct ptrace_hold *hold;
	struct syscall_pick *bpf;
	int link_fd, pending_fd, taken_fd;

	/* The tracer's own. */
	struct queue queue;
	timer_t timer;
	bool have_timer, prompt;
	uint64_t timer_ns;
};

static void thread_continue(pid_t tid)
{
	ptrace(PTRACE_CONT, tid, NULL, NULL);
}

static bool event_matches(struct syscall_gate *g, pid_t tid, struct syscall_gate_event *e)
{
	char link[64], path[PATH_MAX];
	enum disk_class class;
	ssize_t n;

	if (g->filter.process && !g->filter.process(g->filter.data, tid))
		return false;
	if (!g->filter.path)
		return true;
	snprintf(link, sizeof(link), "/proc/%d/fd/%d", tid, e->fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return false;
	path[n] = '\0';
	if (!g->filter.path(g->filter.data, path, &class))
		return false;
	e->class = (uint8_t)class;
	return true;
}

static bool thread_hold(struct syscall_gate *g, pid_t tid, uint64_t at_ns, uint64_t delay_ns)
{
	struct held *h = malloc(sizeof(*h));

	if (!h)
		return false;
	*h = (struct held){.tid = tid, .at_ns = at_ns};
	if (queue_push(&g->queue, at_ns + delay_ns, h) < 0) {
		free(h);
		return false;
	}
	return true;
}

static enum ptrace_signal on_signal(void *data, pid_t tid, int signal)
{
	struct syscall_gate *g = data;
	enum gate_verdict verdict = GATE_PASS;
	struct syscall_gate_event e;
	uint32_t key = (uint32_t)tid;
	uint64_t delay = 0;

	if (signal != SIGCONT || bpf_map_lookup_and_delete_elem(g->pending_fd, &key, &e) < 0)
		return PTRACE_SIGNAL_NOT_MINE;
	g->gate.counts.seen++;
	if (gate_is_open(&g->gate) && event_matches(g, tid, &e))
		verdict = gate_choose(&g->gate, &delay);
	if (verdict == GATE_FAIL &&
	    syscall_regs_set_result(tid, e.call, e.result, -g->gate.effect.code) < 0)
		verdict = GATE_PASS;
	if (verdict == GATE_HOLD && !thread_hold(g, tid, e.at_ns, delay)) {
		g->gate.counts.lost++;
		verdict = GATE_PASS;
	}
	if (verdict != GATE_PASS)
		gate_count_hit(&g->gate, verdict, (enum disk_operation)e.operation,
			(enum disk_class)e.class,
			e.operation <= DISK_WRITE ? (uint64_t)e.result : 0);
	if (verdict == GATE_HOLD)
		return PTRACE_SIGNAL_KEPT;
	thread_continue(tid);
	if (verdict == GATE_PASS)
		gate_count_passed(&g->gate, now_ns() - e.at_ns);
	return PTRACE_SIGNAL_DONE;
}

/* Its entry stays in the heap: the thread's id may have a new owner when it is due. */
static void on_gone(void *data, pid_t tid)
{
	struct syscall_gate *g = data;
	uint32_t key = (uint32_t)tid;

	bpf_map_delete_elem(g->pending_fd, &key);
	bpf_map_delete_elem(g->taken_fd, &key);
	for (size_t i = 0; i < g->queue.count; i++) {
		struct held *h = g->queue.heap[i].item;

		if (h->tid == tid)
			h->tid = 0;
	}
}

static void held_release(struct syscall_gate *g, bool all)
{
	const struct queue_entry *head;
	struct queue_entry e;

	while ((head = queue_head(&g->queue)) && (all || head->due_ns <= now_ns())) {
		struct held *h;
		uint64_t now;

		queue_pop(&g->queue, &e);
		h = e.item;
		if (h->tid)
			thread_continue(h->tid);
		now = now_ns();
		if (h->tid)
			gate_count_given(&g->gate, now - h->at_ns, now > e.due_ns ? now - e.due_ns : 0);
		else
			g->gate.counts.held--;
		free(h);
	}
}

/* Made here, since it wakes this thread. */
static void timer_make(struct syscall_gate *g)
{
	struct sigevent how = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = PTRACE_HOLD_WAKE,
	};

	how.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	g->have_timer = timer_create(CLOCK_MONOTONIC, &how, &g->timer) == 0;
}

static void timer_set(struct syscall_gate *g)
{
	const struct queue_entry *head = queue_head(&g->queue);
	uint64_t until = atomic_load(&g->gate.until_boot_ns), boot = boot_ns(), wanted = 0;
	struct itimerspec at = {0};

	if (head) {
		uint64_t over = now_ns() + (until > boot ? until - boot : 0);

		wanted = head->due_ns < over ? head->due_ns : over;
	}
	if (wanted == g->timer_ns)
		return;
	at.it_value.tv_sec = (time_t)(wanted / NS_PER_S);
	at.it_value.tv_nsec = (long)(wanted % NS_PER_S);
	if (wanted)
		at.it_interval.tv_nsec = TIMER_AGAIN_NS;
	timer_settime(g->timer, TIMER_ABSTIME, &at, NULL);
	g->timer_ns = wanted;
}

static void on_woken(void *data)
{
	struct syscall_gate *g = data;

	if (!g->prompt) {
		gate_thread_be_prompt("pgjolt-calls");
		timer_make(g);
		g->prompt = true;
	}
	held_release(g, !g->have_timer || !gate_is_open(&g->gate));
	if (g->have_timer)
		timer_set(g);
	gate_publish(&g->gate);
}

static int namespace_inode(uint32_t *ret, struct err **err)
{
	struct stat s;

	if (stat("/proc/self/ns/pid", &s) < 0)
		return err_errno(err, errno, "look at /proc/self/ns/pid");
	*ret = (uint32_t)s.st_ino;
	return 0;
}

static void plan_operations(const struct syscall_gate_plan *plan, struct syscall_pick *bpf)
{
	static const unsigned reads_writes = 1U << DISK_READ | 1U << DISK_WRITE;

	for (size_t i = 0; i < ELEMENTS(calls); i++)
		if (plan->filter->operations & 1U << calls[i].operation)
			bpf->rodata->operations[calls[i].call] = (uint8_t)(calls[i].operation + 1);
	bpf->rodata->operation_open = DISK_OPEN + 1;
	if (plan->shared)
		bpf->rodata->shared_operations = reads_writes << 1;
}

/* What the program cannot tell, the tracer looks at, with its own path filter. */
static void plan_trees(const struct syscall_gate_plan *plan, struct syscall_pick *bpf)
{
	bool known = !plan->filter->path;

	for (size_t i = 0; i < plan->n_trees; i++)
		known = known && plan->trees[i].device;
	if (!known || plan->n_trees > SYSCALL_GATE_AREAS)
		return;
	for (size_t i = 0; i < plan->n_trees; i++) {
		bpf->rodata->areas[i].inode = plan->trees[i].inode;
		bpf->rodata->areas[i].device = (uint32_t)plan->trees[i].device;
		bpf->rodata->areas[i].class = plan->trees[i].class;
	}
	bpf->rodata->n_areas = (uint32_t)plan->n_trees;
	bpf->rodata->classes = plan->classes;
	bpf->rodata->class_wal = DISK_WAL;
	bpf->rodata->class_temp = DISK_TEMP;
}

static int program_load(const struct syscall_gate_plan *plan, struct syscall_gate *g,
	struct err **err)
{
	uint32_t namespace = 0;
	int r;

	r = namespace_inode(&namespace, err);
	if (r < 0)
		return r;
	g->bpf = syscall_pick__open();
	if (!g->bpf)
		return err_errno(err, errno, "open the BPF program");
	g->bpf->rodata->postmaster = (uint32_t)plan->postmaster;
	g->bpf->rodata->pid_namespace = namespace;
	plan_operations(plan, g->bpf);
	plan_trees(plan, g->bpf);
	/* The chance is the program's, if all that it sends counts: each call let go costs nothing. */
	if (!g->filter.path && !g->filter.process && !plan->effect->after) {
		g->bpf->rodata->chance_ppm = g->gate.effect.delay.loss_ppm;
		g->gate.effect.delay.loss_ppm = SYSCALL_GATE_PPM;
	}
	r = syscall_pick__load(g->bpf);
	if (r < 0)
		return err_errno(err, r,
			"load the BPF program of the syscall gate (needs CAP_BPF, CAP_PERFMON and the "
			"kernel's BTF)");
	g->pending_fd = bpf_map__fd(g->bpf->maps.pending);
	g->taken_fd = bpf_map__fd(g->bpf->maps.taken);
	return 0;
}

int syscall_gate_new(const struct syscall_gate_plan *plan, struct syscall_gate **ret,
	struct err **err)
{
	_cleanup_(syscall_gate_freep) struct syscall_gate *g = NULL;
	struct ptrace_hooks hooks = {.signal = on_signal, .gone = on_gone, .woken = on_woken};
	int r;

	if (!syscall_regs_supported())
		return err_set(err, EOPNOTSUPP, "the syscall gate knows x86-64 only");
	if (plan->effect->code && (plan->filter->operations & 1U << DISK_OPEN))
		return err_set(err, EOPNOTSUPP,
			"the syscall gate cannot fail an open: the process would keep the descriptor");
	g = calloc(1, sizeof(*g));
	if (!g)
		return err_errno(err, ENOMEM, "make a syscall gate");
	g->link_fd = -1;
	g->filter = *plan->filter;
	queue_init(&g->queue, 0);
	gate_init(&g->gate, plan->effect);
	r = program_load(plan, g, err);
	if (r < 0)
		return r;
	hooks.data = g;
	hooks.owner = plan->owner;
	r = ptrace_hold_new_hooked(&hooks, &g->hold, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(g);
	return 0;
}

int syscall_gate_seize(struct syscall_gate *g, const struct proc_id *ids, size_t count,
	size_t *ret_new, struct err **err)
{
	return ptrace_hold_seize(g->hold, ids, count, ret_new, err);
}

int syscall_gate_attach(struct syscall_gate *g, struct err **err)
{
	g->link_fd = bpf_raw_tracepoint_open("sys_exit", bpf_program__fd(g->bpf->progs.syscall_pick));
	if (g->link_fd < 0)
		return err_errno(err, errno,
			"attach to the raw tracepoint sys_exit (needs CONFIG_FTRACE_SYSCALLS)");
	return 0;
}

void syscall_gate_fire(struct syscall_gate *g, uint64_t until_boot_ns)
{
	gate_set_deadline(&g->gate, until_boot_ns);
	__atomic_store_n(&g->bpf->bss->until_boot_ns, until_boot_ns, __ATOMIC_RELEASE);
}

void syscall_gate_skip(const struct syscall_gate *g, pid_t tid)
{
	uint32_t key = (uint32_t)tid;
	uint8_t yes = 1;

	bpf_map_update_elem(g->taken_fd, &key, &yes, BPF_ANY);
}

void syscall_gate_counts(const struct syscall_gate *g, struct gate_counts *ret)
{
	gate_counts(&g->gate, ret);
}

uint64_t syscall_gate_missed(const struct syscall_gate *g)
{
	int n = libbpf_num_possible_cpus();
	_cleanup_free_ struct syscall_gate_count *each = n > 0 ? calloc((size_t)n, sizeof(*each)) : NULL;
	uint32_t zero = 0;
	uint64_t sum = 0;

	if (!each || bpf_map_lookup_elem(bpf_map__fd(g->bpf->maps.counts), &zero, each) < 0)
		return 0;
	for (int i = 0; i < n; i++)
		sum += each[i].missed;
	return sum;
}

size_t syscall_gate_processes(const struct syscall_gate *g)
{
	_cleanup_free_ struct ptrace_held *list = NULL;
	size_t n = 0;

	return ptrace_hold_list(g->hold, &list, &n, NULL) == 0 ? n : 0;
}

int syscall_gate_program_id(const struct syscall_gate *g, uint32_t *ret, struct err **err)
{
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);
	int r = bpf_obj_get_info_by_fd(bpf_program__fd(g->bpf->progs.syscall_pick), &info, &size);

	if (r < 0)
		return err_errno(err, r, "identify the BPF program of the syscall gate");
	*ret = info.id;
	return 0;
}

void syscall_gate_free(struct syscall_gate *g)
{
	struct queue_entry e;

	if (!g)
		return;
	if (g->bpf && g->bpf->bss)
		syscall_gate_fire(g, 0);
	closep(&g->link_fd);
	/* The tracer's end lets go what is held. */
	ptrace_hold_free(g->hold);
	if (g->have_timer)
		timer_delete(g->timer);
	while (queue_pop(&g->queue, &e))
		free(e.item);
	queue_done(&g->queue);
	syscall_pick__destroy(g->bpf);
	free(g);
}
