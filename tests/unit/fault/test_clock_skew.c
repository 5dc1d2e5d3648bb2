#include <criterion/criterion.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "hold/ptrace_hold.h"
#include "kernel/proc.h"
#include "kernel/vdso.h"

extern const struct fault_driver driver_clock_skew;

struct scene {
	pid_t root, child;
	int ask, answer;
	struct instance_info instance;
	struct node node;
	struct params *params;
	struct fault fault;
	struct undo undo;
};

static int64_t off_now(void)
{
	struct timespec t, right;

	clock_gettime(CLOCK_REALTIME, &t);
	syscall(SYS_clock_gettime, CLOCK_REALTIME, &right);
	return t.tv_sec - right.tv_sec;
}

/* A "postmaster" with a child that stays; asked, it tells how far its clock is off, and that of a
 * child born for it. */
static void run_root(int in, int out)
{
	pid_t child;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	(void)!write(out, &child, sizeof(child));
	while (read(in, &byte, 1) == 1) {
		int64_t off[2] = {off_now(), 0};
		int status, tell[2];
		pid_t pid;

		(void)!pipe(tell);
		pid = fork();
		if (pid == 0) {
			off[1] = off_now();
			(void)!write(tell[1], &off[1], sizeof(off[1]));
			_exit(0);
		}
		waitpid(pid, &status, 0);
		(void)!read(tell[0], &off[1], sizeof(off[1]));
		close(tell[0]);
		close(tell[1]);
		(void)!write(out, off, sizeof(off));
	}
	_exit(0);
}

static void scene_start(struct scene *s, const char *json)
{
	_cleanup_json_ cJSON *object = NULL;
	int ask[2], answer[2];
	struct proc_id id;

	memset(s, 0, sizeof(*s));
	cr_assert_eq(pipe(ask), 0);
	cr_assert_eq(pipe(answer), 0);
	s->root = fork();
	if (s->root == 0)
		run_root(ask[0], answer[1]);
	s->ask = ask[1];
	s->answer = answer[0];
	cr_assert_eq(read(s->answer, &s->child, sizeof(pid_t)), sizeof(pid_t));
	cr_assert_eq(json_parse(json, strlen(json), &object, NULL), 0);
	cr_assert_eq(params_from_json(&fault_clock_skew, object, &s->params, NULL), 0);
	cr_assert_eq(proc_identify(s->root, &id, NULL), 0);
	s->instance = (struct instance_info){.name = (char *)"lab/none", .cluster_name = (char *)"lab",
		.pid = s->root, .start_ticks = id.start_ticks, .cgroup = (char *)"/"};
	cr_assert_geq(sd_event_new(&s->node.event), 0);
	s->node.name = "node1";
	s->fault = (struct fault){.driver = &driver_clock_skew, .node = &s->node, .experiment = "x",
		.instance = &s->instance, .params = s->params, .duration_ns = 600 * NS_PER_S};
	s->undo.spec = &fault_clock_skew;
}

static void scene_fire(struct scene *s)
{
	_cleanup_err_ struct err *err = NULL;

	s->fault.deadline_boot_ns = boot_ns() + s->fault.duration_ns;
	cr_assert_eq(driver_clock_skew.fire(&s->fault, &err), 0, "%s", err_text(err));
}

static void scene_end(struct scene *s)
{
	if (s->fault.state)
		driver_clock_skew.release(&s->fault);
	kill(s->child, SIGKILL);
	kill(s->root, SIGKILL);
	waitpid(s->root, NULL, 0);
	close(s->ask);
	close(s->answer);
	undo_done(&s->undo);
	params_free(s->params);
	sd_event_unref(s->node.event);
}

static void expect_off(struct scene *s, int64_t wanted)
{
	int64_t off[2];

	cr_assert_eq(write(s->ask, "?", 1), 1);
	cr_assert_eq(read(s->answer, off, sizeof(off)), sizeof(off), "the postmaster is gone");
	for (int i = 0; i < 2; i++)
		cr_expect(off[i] >= wanted - 1 && off[i] <= wanted + 1, "%s: %ld s, wanted %ld s",
			i ? "a child born now" : "the postmaster", (long)off[i], (long)wanted);
}

static bool is_pristine(pid_t pid)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};

	cr_assert_eq(vdso_own(&own, NULL), 0);
	cr_assert_eq(vdso_open(pid, &own, &p, NULL), 0);
	return memcmp(p.bytes, own.bytes, own.size) == 0;
}

Test(clock_skew, from_arm_to_clean)
{
	struct evidence e = {0};
	struct scene s;

	scene_start(&s, "{\"offset\": \"1h\"}");
	expect_off(&s, 0);
	cr_assert_eq(driver_clock_skew.arm(&s.fault, &s.undo, NULL), 0);
	cr_expect_eq(s.fault.lifetime, LIFETIME_EXPIRING);
	cr_expect(is_pristine(s.root) && is_pristine(s.child), "armed: nothing is there");
	expect_off(&s, 0);
	cr_expect_eq(driver_clock_skew.verify_clean(&s.undo, NULL), 0);
	scene_fire(&s);
	expect_off(&s, 3600);
	cr_expect_not(is_pristine(s.root));
	cr_expect_not(is_pristine(s.child));
	cr_expect(is_pristine(getpid()));
	cr_assert_eq(driver_clock_skew.observe(&s.fault, &e, NULL), 0);
	cr_expect_eq(e.hits, 2);
	evidence_done(&e);
	cr_expect_eq(driver_clock_skew.verify_clean(&s.undo, NULL), -EBUSY);
	cr_expect_not(driver_clock_skew.target_is_gone(&s.fault));
	driver_clock_skew.release(&s.fault);
	expect_off(&s, 3600);
	cr_expect_eq(driver_clock_skew.revert(&s.undo, NULL), 0);
	expect_off(&s, 0);
	cr_expect(is_pristine(s.root) && is_pristine(s.child));
	cr_expect_eq(driver_clock_skew.verify_clean(&s.undo, NULL), 0);
	cr_expect_eq(driver_clock_skew.revert(&s.undo, NULL), 0, "again");
	scene_end(&s);
}

Test(clock_skew, goes_inert_by_itself)
{
	struct scene s;

	scene_start(&s, "{\"offset\": \"1h\", \"direction\": \"back\"}");
	s.fault.duration_ns = 1500 * NS_PER_MS;
	cr_assert_eq(driver_clock_skew.arm(&s.fault, &s.undo, NULL), 0);
	scene_fire(&s);
	if (boot_ns() < s.fault.deadline_boot_ns - NS_PER_S)
		expect_off(&s, -3600);
	while (boot_ns() <= s.fault.deadline_boot_ns)
		usleep(10000);
	expect_off(&s, 0);
	driver_clock_skew.release(&s.fault);
	cr_expect_eq(driver_clock_skew.revert(&s.undo, NULL), 0);
	scene_end(&s);
}

/* An agent that died between two writes: the way in is closed or not yet open, the block is there. */
struct write {
	struct vdso_process *process;
	const struct vdso_image *own;
};

static int write_entries(void *data)
{
	const struct write *w = data;

	return vdso_make(w->process, w->own->bytes, 0, w->own->padding, NULL);
}

/* By its tracer where the kernel lets nobody else. */
static int give_entries_back(struct vdso_process *p, const struct vdso_image *own)
{
	_cleanup_(ptrace_hold_freep) struct ptrace_hold *hold = NULL;
	struct write w = {p, own};
	int r = write_entries(&w);
	struct proc_id id;
	size_t n_new;

	if (r != -EACCES)
		return r;
	cr_assert_eq(proc_identify(p->pid, &id, NULL), 0);
	cr_assert_eq(ptrace_hold_new(&hold, NULL), 0);
	cr_assert_eq(ptrace_hold_seize(hold, &id, 1, &n_new, NULL), 0);
	return ptrace_hold_call(hold, write_entries, &w);
}

Test(clock_skew, half_of_a_patch)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	struct scene s;

	cr_assert_eq(vdso_own(&own, NULL), 0);
	scene_start(&s, "{\"offset\": \"1h\"}");
	cr_assert_eq(driver_clock_skew.arm(&s.fault, &s.undo, NULL), 0);
	scene_fire(&s);
	driver_clock_skew.release(&s.fault);
	for (int i = 0; i < 2; i++) {
		_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};

		cr_assert_eq(vdso_open(i ? s.root : s.child, &own, &p, NULL), 0);
		cr_assert_eq(give_entries_back(&p, &own), 0);
	}
	expect_off(&s, 0);
	cr_expect_eq(driver_clock_skew.verify_clean(&s.undo, NULL), -EBUSY);
	cr_expect_eq(driver_clock_skew.revert(&s.undo, NULL), 0);
	cr_expect(is_pristine(s.root) && is_pristine(s.child));
	cr_expect_eq(driver_clock_skew.verify_clean(&s.undo, NULL), 0);
	scene_end(&s);
}

static void *reader(void *data)
{
	struct timespec t;

	(void)data;
	for (;;)
		if (clock_gettime(CLOCK_REALTIME, &t) != 0 || t.tv_nsec > 999999999)
			_exit(1);
	return NULL;
}

/* Threads that do nothing but read clocks: one of them is always in there. */
Test(clock_skew, threads_that_read_all_the_time)
{
	struct scene s;

	scene_start(&s, "{\"offset\": \"1h\"}");
	kill(s.root, SIGKILL);
	waitpid(s.root, NULL, 0);
	s.root = fork();
	if (s.root == 0) {
		pthread_t thread;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int i = 0; i < 3; i++)
			pthread_create(&thread, NULL, reader, NULL);
		reader(NULL);
	}
	s.instance.pid = s.root;
	for (int i = 0; i < 10; i++) {
		_cleanup_err_ struct err *err = NULL;
		struct proc_id id;

		cr_assert_eq(proc_identify(s.root, &id, NULL), 0);
		s.instance.start_ticks = id.start_ticks;
		cr_assert_eq(driver_clock_skew.arm(&s.fault, &s.undo, &err), 0, "%s", err_text(err));
		scene_fire(&s);
		cr_assert_not(is_pristine(s.root));
		driver_clock_skew.release(&s.fault);
		cr_assert_eq(driver_clock_skew.revert(&s.undo, &err), 0, "%s", err_text(err));
		cr_assert(is_pristine(s.root));
		cr_assert_eq(kill(s.root, 0), 0);
		undo_done(&s.undo);
	}
	cr_expect_eq(waitpid(s.root, NULL, WNOHANG), 0, "it survived");
	scene_end(&s);
}

/* As on a kernel that lets only a tracer write: from here on, for this thread and those that it starts. */
static void forbid_writes(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = ELEMENTS(filter), .filter = filter};

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* Skewed, then held by another fault, which goes on when the skew is to end. */
static void ends_while_held(bool stopped)
{
	const struct ptrace_hooks hooks = {.owner = "proc-freeze of experiment y"};
	_cleanup_err_ struct err *err = NULL;
	struct proc_id ids[2];
	size_t n = 0, running = 9;
	struct ptrace_hold *hold;
	struct scene s;

	scene_start(&s, "{\"offset\": \"1h\"}");
	cr_assert_eq(driver_clock_skew.arm(&s.fault, &s.undo, NULL), 0);
	scene_fire(&s);
	expect_off(&s, 3600);
	cr_assert_eq(proc_identify(s.root, &ids[0], NULL), 0);
	cr_assert_eq(proc_identify(s.child, &ids[1], NULL), 0);
	cr_assert_eq(ptrace_hold_new_hooked(&hooks, &hold, NULL), 0);
	cr_assert_eq(ptrace_hold_seize(hold, ids, 2, &n, NULL), 0);
	cr_assert_eq(n, 2);
	if (stopped)
		cr_assert(ptrace_hold_stop(hold, 5 * NS_PER_S, &running) == 0 && running == 0);
	forbid_writes();
	driver_clock_skew.release(&s.fault);
	cr_expect_eq(driver_clock_skew.revert(&s.undo, &err), 0, "%s", err_text(err));
	cr_expect_eq(driver_clock_skew.verify_clean(&s.undo, NULL), 0);
	cr_expect(is_pristine(s.root) && is_pristine(s.child));
	if (stopped) {
		struct proc_stat stat;

		cr_expect(proc_read_stat(s.root, &stat, NULL) == 0 && stat.state == 't',
			"it does not stand any more");
		ptrace_hold_free(steal_ptr(hold));
	}
	expect_off(&s, 0);
	ptrace_hold_free(hold);
	expect_off(&s, 0);
	scene_end(&s);
}

Test(clock_skew, ends_while_another_fault_keeps_it_still)
{
	ends_while_held(true);
}

Test(clock_skew, ends_while_another_fault_has_it_and_lets_it_run)
{
	ends_while_held(false);
}

Test(clock_skew, is_refused_by_the_name_of_who_holds_it)
{
	const struct ptrace_hooks hooks = {.owner = "disk-latency of experiment y"};
	_cleanup_err_ struct err *err = NULL;
	struct ptrace_hold *hold;
	struct proc_id id;
	struct scene s;
	size_t n = 0;

	scene_start(&s, "{\"offset\": \"1h\"}");
	cr_assert_eq(proc_identify(s.child, &id, NULL), 0);
	cr_assert_eq(ptrace_hold_new_hooked(&hooks, &hold, NULL), 0);
	cr_assert_eq(ptrace_hold_seize(hold, &id, 1, &n, NULL), 0);
	cr_expect_eq(driver_clock_skew.arm(&s.fault, &s.undo, &err), -EBUSY);
	cr_expect(strstr(err_text(err), "is held by disk-latency of experiment y"), "%s", err_text(err));
	cr_expect_null(s.fault.state);
	ptrace_hold_free(hold);
	cr_expect_eq(driver_clock_skew.arm(&s.fault, &s.undo, &err), 0, "%s", err_text(err));
	scene_end(&s);
}

Test(clock_skew, two_experiments)
{
	_cleanup_err_ struct err *err = NULL;
	struct undo undo = {.spec = &fault_clock_skew};
	struct fault second;
	struct scene s;

	scene_start(&s, "{\"offset\": \"1h\"}");
	second = s.fault;
	cr_assert_eq(driver_clock_skew.arm(&s.fault, &s.undo, NULL), 0);
	scene_fire(&s);
	cr_expect_eq(driver_clock_skew.arm(&second, &undo, &err), -EBUSY);
	cr_expect(strstr(err_text(err), "another experiment"), "%s", err_text(err));
	cr_expect_null(second.state);
	driver_clock_skew.release(&s.fault);
	cr_expect_eq(driver_clock_skew.revert(&s.undo, NULL), 0);
	scene_end(&s);
}

Test(clock_skew, refusals)
{
	_cleanup_err_ struct err *err = NULL;
	struct scene s;

	scene_start(&s, "{\"offset\": \"1h\", \"processes\": \"all\"}");
	cr_expect_eq(driver_clock_skew.arm(&s.fault, &s.undo, &err), -EPERM, "the root cgroup");
	scene_end(&s);
	scene_start(&s, "{\"offset\": \"1h\", \"after\": \"20m\"}");
	cr_expect_eq(driver_clock_skew.arm(&s.fault, &s.undo, &err), -EINVAL);
	scene_end(&s);
	scene_start(&s, "{\"offset\": \"1h\"}");
	kill(s.root, SIGKILL);
	waitpid(s.root, NULL, 0);
	cr_expect_eq(driver_clock_skew.arm(&s.fault, &s.undo, &err), -ESTALE);
	scene_end(&s);
}

/* The offset alone is within what is allowed; with the drift of its ten minutes it is not. */
Test(clock_skew, waits_that_would_last_too_long)
{
	static const struct {
		const char *params;
		int code;
	} cases[] = {
		{"{\"offset\": \"5m\", \"drift\": 500000, \"clocks\": \"monotonic\"}", 0},
		{"{\"offset\": \"5m\", \"drift\": 500100, \"clocks\": \"monotonic\"}", -EINVAL},
		{"{\"offset\": \"10m\", \"drift\": 1, \"clocks\": \"both\"}", -EINVAL},
		{"{\"offset\": \"10m\", \"drift\": 900000, \"clocks\": \"realtime\"}", 0},
		{"{\"drift\": 900000, \"clocks\": \"both\", \"direction\": \"back\"}", 0},
	};
	struct scene s;

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_err_ struct err *err = NULL;

		scene_start(&s, cases[i].params);
		cr_expect_eq(driver_clock_skew.arm(&s.fault, &s.undo, &err), cases[i].code, "%s: %s",
			cases[i].params, err_text(err));
		if (cases[i].code)
			cr_expect(strstr(err_text(err), "ahead at the fault's end (allowed: up to 10m)"), "%s",
				err_text(err));
		scene_end(&s);
	}
}

static double told_ms(const char *params)
{
	_cleanup_err_ struct err *err = NULL;
	struct evidence e = {0};
	const cJSON *item;
	struct scene s;
	double ms;

	scene_start(&s, params);
	cr_assert_eq(driver_clock_skew.arm(&s.fault, &s.undo, &err), 0, "%s", err_text(err));
	cr_assert_eq(driver_clock_skew.observe(&s.fault, &e, NULL), 0);
	item = json_get(e.detail, "waits_longer_ms");
	ms = item ? item->valuedouble : -1;
	cJSON_Delete(e.detail);
	scene_end(&s);
	return ms;
}

Test(clock_skew, evidence_tells_by_how_much_waits_may_last_longer)
{
	cr_expect_eq(told_ms("{\"offset\": \"40s\", \"clocks\": \"both\"}"), 40000);
	cr_expect_eq(told_ms("{\"offset\": \"40s\", \"drift\": 1000, \"after\": \"100s\"}"), 40500);
	cr_expect_eq(told_ms("{\"offset\": \"40s\", \"direction\": \"back\"}"), -1);
}

Test(clock_skew, records)
{
	static const char *const bad[] = {"{}", "{\"token\": 0}", "{\"token\": \"x\"}", "[]",
		"{\"token\": 5, \"more\": 1}"};
	struct undo u = {.spec = &fault_clock_skew};

	cr_expect_eq(driver_clock_skew.revert(&u, NULL), -EBADMSG);
	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		cr_assert_eq(json_parse(bad[i], strlen(bad[i]), &u.record, NULL), 0);
		cr_expect_eq(driver_clock_skew.revert(&u, NULL), -EBADMSG, "%s", bad[i]);
		cr_expect_eq(driver_clock_skew.verify_clean(&u, NULL), -EBADMSG, "%s", bad[i]);
		undo_done(&u);
	}
	cr_assert_eq(json_parse("{\"token\": 99}", 13, &u.record, NULL), 0);
	cr_expect_eq(driver_clock_skew.revert(&u, NULL), 0, "nobody has it any more");
	undo_done(&u);
}

Test(clock_skew, probe)
{
	struct support support = {0};
	struct node node = {.name = "node1"};

	cr_assert_eq(driver_clock_skew.probe(&node, &support, NULL), 0);
	cr_expect(support.supported ? support.mechanism != NULL : support.reason != NULL);
	if (geteuid() == 0)
		cr_expect(support.supported, "%s", support.reason ? support.reason : "");
	support_done(&support);
}
