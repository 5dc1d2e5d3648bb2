#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "kernel/proc.h"

extern const struct fault_driver driver_proc_kill;

/* A "postmaster" whose children are named as PostgreSQL names them: sleep(1) with another
 * argv[0], whose argument comes after the title. */
static const char *const titles[] = {
	"postgres: lab: autovacuum worker", "postgres: lab: walsender r 10.0.0.2(1)",
	"postgres: lab: alice app [local] idle", "postgres: lab: alice app [local] idle"};
#define CHILDREN ((int)ELEMENTS(titles))

struct scene {
	pid_t root, children[CHILDREN];
	struct instance_info instance;
	struct node node;
	struct params *params;
	struct fault fault;
	struct undo undo;
};

static void run_root(int out)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < CHILDREN; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			execl("/bin/sleep", titles[i], "1000", NULL);
			_exit(1);
		}
		(void)!write(out, &pid, sizeof(pid));
	}
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
	for (int i = 0; i < CHILDREN; i++) {
		cr_assert_eq(read(tell[0], &s->children[i], sizeof(pid_t)), sizeof(pid_t));
		cr_assert(has_title(s->children[i], titles[i]));
	}
	cr_assert_eq(json_parse(json, strlen(json), &object, NULL), 0);
	cr_assert_eq(params_from_json(&fault_proc_kill, object, &s->params, NULL), 0);
	cr_assert_eq(proc_identify(s->root, &id, NULL), 0);
	s->instance = (struct instance_info){.name = (char *)"lab/none", .cluster_name = (char *)"lab",
		.pid = s->root, .start_ticks = id.start_ticks, .cgroup = (char *)"/"};
	cr_assert_geq(sd_event_new(&s->node.event), 0);
	s->node.name = "node1";
	s->fault = (struct fault){.driver = &driver_proc_kill, .node = &s->node, .experiment = "x",
		.instance = &s->instance, .params = s->params};
}

static void scene_end(struct scene *s)
{
	if (s->fault.state)
		driver_proc_kill.release(&s->fault);
	undo_done(&s->undo);
	params_free(s->params);
	sd_event_unref(s->node.event);
	kill(s->root, SIGKILL);
	waitpid(s->root, NULL, 0);
}

static void arm(struct scene *s)
{
	cr_assert_eq(driver_proc_kill.arm(&s->fault, &s->undo, NULL), 0);
}

static uint64_t hits(struct scene *s)
{
	struct evidence e = {0};
	uint64_t n;

	cr_assert_eq(driver_proc_kill.observe(&s->fault, &e, NULL), 0);
	n = e.hits;
	cr_expect_eq((uint64_t)cJSON_GetArraySize(cJSON_GetObjectItem(e.detail, "processes")), n);
	evidence_done(&e);
	return n;
}

static bool is_dead(pid_t pid)
{
	struct proc_id id = {.pid = pid};
	struct proc_stat st;

	for (int i = 0; i < 500; i++) {
		if (proc_read_stat(pid, &st, NULL) < 0 || st.state == 'Z')
			return true;
		id = st.id;
		usleep(1000);
	}
	return !proc_is_alive(&id);
}

static bool lives(pid_t pid)
{
	struct proc_stat st;

	usleep(20000);
	return proc_read_stat(pid, &st, NULL) == 0 && st.state != 'Z';
}

Test(proc_kill, the_postmaster_alone)
{
	struct scene s;

	scene_start(&s, "{\"signal\": \"KILL\"}");
	arm(&s);
	cr_expect(lives(s.root));
	cr_expect_eq(hits(&s), 0);
	cr_assert_eq(driver_proc_kill.fire(&s.fault, NULL), 0);
	cr_expect(is_dead(s.root));
	cr_expect_eq(hits(&s), 1);
	cr_expect_eq(s.fault.lifetime, LIFETIME_HELD);
	scene_end(&s);
}

Test(proc_kill, all_of_the_tree)
{
	struct scene s;

	scene_start(&s, "{\"process\": \"all\"}");
	arm(&s);
	cr_assert_eq(driver_proc_kill.fire(&s.fault, NULL), 0);
	cr_expect_eq(hits(&s), 1 + CHILDREN);
	cr_expect(is_dead(s.root));
	for (int i = 0; i < CHILDREN; i++)
		cr_expect(is_dead(s.children[i]));
	scene_end(&s);
}

Test(proc_kill, by_title)
{
	struct scene s;

	scene_start(&s, "{\"process\": \"title\", \"titles\": [\"walsender\"], \"signal\": \"TERM\"}");
	arm(&s);
	cr_assert_eq(driver_proc_kill.fire(&s.fault, NULL), 0);
	cr_expect_eq(hits(&s), 1);
	cr_expect(is_dead(s.children[1]));
	cr_expect(lives(s.children[0]) && lives(s.children[2]) && lives(s.root));
	scene_end(&s);
}

Test(proc_kill, a_share_is_rounded_up)
{
	struct scene s;

	scene_start(&s, "{\"process\": \"title\", \"titles\": [\"backend\"], \"percent\": \"1%\"}");
	arm(&s);
	cr_assert_eq(driver_proc_kill.fire(&s.fault, NULL), 0);
	cr_expect_eq(hits(&s), 1);
	usleep(20000);
	cr_expect_eq(lives(s.children[2]) + lives(s.children[3]), 1);
	scene_end(&s);
}

Test(proc_kill, again_and_again_until_release)
{
	struct scene s;
	uint64_t end;

	scene_start(&s, "{\"process\": \"title\", \"titles\": [\"backend\"], \"percent\": \"50%\", "
			"\"every\": \"20ms\"}");
	arm(&s);
	cr_assert_eq(driver_proc_kill.fire(&s.fault, NULL), 0);
	cr_expect_eq(hits(&s), 1);
	for (end = now_ns() + 3 * NS_PER_S; hits(&s) < 2 && now_ns() < end;)
		cr_assert_geq(sd_event_run(s.node.event, 100000), 0);
	cr_expect(is_dead(s.children[2]) && is_dead(s.children[3]));
	cr_expect(lives(s.children[0]));
	driver_proc_kill.release(&s.fault);
	cr_expect_null(driver_proc_kill.revert, "a signal cannot be taken back");
	cr_expect_eq(sd_event_run(s.node.event, 50000), 0, "the timer is still there");
	scene_end(&s);
}

Test(proc_kill, no_match_is_no_hit)
{
	struct scene s;

	scene_start(&s, "{\"process\": \"title\", \"titles\": [\"archiver\"]}");
	arm(&s);
	cr_assert_eq(driver_proc_kill.fire(&s.fault, NULL), 0);
	cr_expect_eq(hits(&s), 0);
	scene_end(&s);
}

Test(proc_kill, a_target_that_is_gone)
{
	_cleanup_err_ struct err *err = NULL;
	struct scene s;

	scene_start(&s, "{}");
	arm(&s);
	kill(s.root, SIGKILL);
	waitpid(s.root, NULL, 0);
	cr_expect_eq(driver_proc_kill.fire(&s.fault, NULL), 0);
	cr_expect_eq(hits(&s), 0, "fired at nothing");
	driver_proc_kill.release(&s.fault);
	undo_done(&s.undo);
	cr_expect_eq(driver_proc_kill.arm(&s.fault, &s.undo, &err), -ESTALE);
	cr_expect_null(s.fault.state);
	scene_end(&s);
}

Test(proc_kill, never_pid_1)
{
	struct scene s;

	scene_start(&s, "{}");
	s.instance.pid = 1;
	cr_expect_eq(driver_proc_kill.arm(&s.fault, &s.undo, NULL), -EPERM);
	scene_end(&s);
}

Test(proc_kill, probe_says_yes_here)
{
	struct support support = {0};
	struct node node = {.name = "node1"};

	cr_assert_eq(driver_proc_kill.probe(&node, &support, NULL), 0);
	if (geteuid() == 0)
		cr_expect(support.supported, "%s", support.reason);
	cr_expect_eq(support.supported, support.mechanism != NULL);
	support_done(&support);
}
