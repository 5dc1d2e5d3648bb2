#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "kernel/proc.h"

extern const struct fault_driver driver_proc_freeze;

struct scene {
	pid_t root, child;
	struct instance_info instance;
	struct node node;
	struct params *params;
	struct fault fault;
	struct undo undo;
};

/* A "postmaster" with one child named as a walsender is. */
static void run_root(int out)
{
	pid_t pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl("/bin/sleep", "postgres: lab: walsender", "1000", NULL);
		_exit(1);
	}
	(void)!write(out, &pid, sizeof(pid));
	for (;;)
		pause();
}

static bool has_title(pid_t pid, const char *start)
{
	for (int i = 0; i < 1000; i++) {
		_cleanup_free_ char *title = NULL;

		if (proc_title(pid, &title, NULL) == 0 && strncmp(title, start, strlen(start)) == 0)
			return true;
		usleep(1000);
	}
	return false;
}

static void scene_start(struct scene *s, const char *json)
{
	_cleanup_json_ cJSON *object = NULL;
	struct proc_id id;
	int tell[2];

	memset(s, 0, sizeof(*s));
	cr_assert_eq(pipe(tell), 0);
	s->root = fork();
	if (s->root == 0)
		run_root(tell[1]);
	cr_assert_eq(read(tell[0], &s->child, sizeof(pid_t)), sizeof(pid_t));
	cr_assert(has_title(s->child, "postgres: lab:"));
	cr_assert_eq(json_parse(json, strlen(json), &object, NULL), 0);
	cr_assert_eq(params_from_json(&fault_proc_freeze, object, &s->params, NULL), 0);
	cr_assert_eq(proc_identify(s->root, &id, NULL), 0);
	s->instance = (struct instance_info){.name = (char *)"lab/none", .cluster_name = (char *)"lab",
		.pid = s->root, .start_ticks = id.start_ticks, .cgroup = (char *)"/"};
	cr_assert_geq(sd_event_new(&s->node.event), 0);
	s->node.name = "node1";
	s->fault = (struct fault){.driver = &driver_proc_freeze, .node = &s->node, .experiment = "x",
		.instance = &s->instance, .params = s->params};
}

static void scene_end(struct scene *s)
{
	if (s->fault.state)
		driver_proc_freeze.release(&s->fault);
	undo_done(&s->undo);
	params_free(s->params);
	sd_event_unref(s->node.event);
	kill(s->root, SIGKILL);
	kill(s->child, SIGKILL);
	waitpid(s->root, NULL, 0);
}

static char state_of(pid_t pid)
{
	struct proc_stat st;

	return proc_read_stat(pid, &st, NULL) == 0 ? st.state : '-';
}

static uint64_t hits(struct scene *s)
{
	struct evidence e = {0};
	uint64_t n;

	cr_assert_eq(driver_proc_freeze.observe(&s->fault, &e, NULL), 0);
	n = e.hits;
	evidence_done(&e);
	return n;
}

Test(proc_freeze, the_postmasters_tree)
{
	struct scene s;

	scene_start(&s, "{\"processes\": \"postgres\"}");
	cr_assert_eq(driver_proc_freeze.arm(&s.fault, &s.undo, NULL), 0);
	cr_expect_eq(hits(&s), 0);
	cr_expect_eq(state_of(s.root), 'S');
	cr_assert_eq(driver_proc_freeze.fire(&s.fault, NULL), 0);
	cr_expect_eq(hits(&s), 2);
	cr_expect(state_of(s.root) == 't' && state_of(s.child) == 't');
	cr_expect_eq(driver_proc_freeze.verify_clean(&s.undo, NULL), -EBUSY);
	cr_expect_not(driver_proc_freeze.target_is_gone(&s.fault));
	driver_proc_freeze.release(&s.fault);
	cr_expect_eq(driver_proc_freeze.revert(&s.undo, NULL), 0);
	cr_expect_eq(driver_proc_freeze.verify_clean(&s.undo, NULL), 0);
	cr_expect(state_of(s.root) != 't' && state_of(s.child) != 't');
	scene_end(&s);
}

Test(proc_freeze, by_title)
{
	struct scene s;

	scene_start(&s, "{\"processes\": \"titles\", \"titles\": [\"walsender\"]}");
	cr_assert_eq(driver_proc_freeze.arm(&s.fault, &s.undo, NULL), 0);
	cr_assert_eq(driver_proc_freeze.fire(&s.fault, NULL), 0);
	cr_expect_eq(hits(&s), 1);
	cr_expect_eq(state_of(s.child), 't');
	cr_expect_neq(state_of(s.root), 't');
	scene_end(&s);
}

Test(proc_freeze, refusals_leave_nothing)
{
	_cleanup_err_ struct err *err = NULL;
	struct scene s;

	scene_start(&s, "{\"processes\": \"titles\", \"titles\": [\"archiver\"]}");
	cr_expect_eq(driver_proc_freeze.arm(&s.fault, &s.undo, &err), -ENOENT);
	cr_expect_null(s.fault.state);
	scene_end(&s);
	scene_start(&s, "{\"processes\": \"instance\"}");
	cr_expect_eq(driver_proc_freeze.arm(&s.fault, &s.undo, &err), -EPERM);
	cr_expect(strstr(err_text(err), "processes=postgres"), "%s", err_text(err));
	s.instance.start_ticks++;
	cr_expect_eq(driver_proc_freeze.arm(&s.fault, &s.undo, NULL), -EPERM);
	scene_end(&s);
	scene_start(&s, "{\"processes\": \"postgres\"}");
	s.instance.start_ticks++;
	cr_expect_eq(driver_proc_freeze.arm(&s.fault, &s.undo, NULL), -ESTALE);
	scene_end(&s);
}

Test(proc_freeze, one_tracer_at_a_time)
{
	_cleanup_err_ struct err *err = NULL;
	struct undo undo = {0};
	struct fault second;
	struct scene s;

	scene_start(&s, "{\"processes\": \"postgres\"}");
	cr_assert_eq(driver_proc_freeze.arm(&s.fault, &s.undo, NULL), 0);
	second = s.fault;
	second.state = NULL;
	cr_expect_eq(driver_proc_freeze.arm(&second, &undo, &err), -EBUSY);
	cr_expect(strstr(err_text(err), "is held by proc-freeze of experiment "), "%s", err_text(err));
	cr_expect_null(second.state);
	scene_end(&s);
}

Test(proc_freeze, a_target_that_ends_is_gone)
{
	struct scene s;
	uint64_t end = now_ns() + 3 * NS_PER_S;

	scene_start(&s, "{\"processes\": \"postgres\"}");
	cr_assert_eq(driver_proc_freeze.arm(&s.fault, &s.undo, NULL), 0);
	cr_assert_eq(driver_proc_freeze.fire(&s.fault, NULL), 0);
	kill(s.child, SIGKILL);
	kill(s.root, SIGKILL);
	while (!driver_proc_freeze.target_is_gone(&s.fault) && now_ns() < end)
		usleep(1000);
	cr_expect(driver_proc_freeze.target_is_gone(&s.fault));
	cr_expect_eq(driver_proc_freeze.verify_clean(&s.undo, NULL), 0);
	scene_end(&s);
}

static int record_codes(const char *json, int *ret_verify)
{
	struct undo undo = {.spec = &fault_proc_freeze};
	int r;

	if (json)
		cr_assert_eq(json_parse(json, strlen(json), &undo.record, NULL), 0);
	r = driver_proc_freeze.revert(&undo, NULL);
	*ret_verify = driver_proc_freeze.verify_clean(&undo, NULL);
	undo_done(&undo);
	return r;
}

Test(proc_freeze, records)
{
	static const char *const bad[] = {
		NULL, "{}", "[]", "7", "{\"mechanism\": 1}", "{\"mechanism\": \"other\"}",
		"{\"mechanism\": \"cgroup\"}", "{\"mechanism\": \"cgroup\", \"file\": \"/etc/passwd\"}",
		"{\"mechanism\": \"ptrace\", \"more\": 1}",
	};
	int verify;

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		cr_expect_eq(record_codes(bad[i], &verify), -EBADMSG, "%s", bad[i]);
		cr_expect_lt(verify, 0);
	}
	cr_expect_eq(record_codes("{\"mechanism\": \"cgroup\", "
				  "\"file\": \"/sys/fs/cgroup/pj-procs-none/cgroup.freeze\"}", &verify), 0);
	cr_expect_eq(verify, 0, "a group that is gone is clean");
	cr_expect_eq(record_codes("{\"mechanism\": \"ptrace\", \"processes\": "
				  "[{\"pid\": 2000000000, \"start_ticks\": 1}]}", &verify), 0);
	cr_expect_eq(verify, 0);
	cr_expect_eq(record_codes("{\"mechanism\": \"ptrace\", \"processes\": [{\"pid\": -1}]}", &verify), 0);
	cr_expect_lt(verify, 0);
}

Test(proc_freeze, probe_tries_it)
{
	struct support support = {0};
	struct node node = {.name = "node1"};

	cr_assert_eq(driver_proc_freeze.probe(&node, &support, NULL), 0);
	if (geteuid() == 0)
		cr_expect(support.supported, "%s", support.reason);
	cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "no child is left");
	support_done(&support);
}
