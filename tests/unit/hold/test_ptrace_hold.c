#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "hold/ptrace_hold.h"

#define WAIT_NS (5 * NS_PER_S)

/* Shared with the children: what shows that they run. */
struct board {
	atomic_ulong steps, thread_steps, signals, children, child_steps, execs;
	atomic_int fork_now;
};

static struct board *board_new(void)
{
	struct board *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		-1, 0);

	cr_assert_neq(b, MAP_FAILED);
	return b;
}

static struct board *board;

static void on_signal(int signal)
{
	(void)signal;
	atomic_fetch_add(&board->signals, 1);
}

static void *stepper(void *counter)
{
	for (;;) {
		atomic_fetch_add((atomic_ulong *)counter, 1);
		usleep(200);
	}
	return NULL;
}

/* Steps, in two threads; forks one more that steps too whenever it is asked. */
static pid_t child_start(void)
{
	pid_t pid = fork();
	pthread_t thread;

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGUSR1, on_signal);
	signal(SIGCHLD, SIG_IGN);
	pthread_create(&thread, NULL, stepper, &board->thread_steps);
	for (;;) {
		atomic_fetch_add(&board->steps, 1);
		if (atomic_exchange(&board->fork_now, 0)) {
			if (fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				stepper(&board->child_steps);
			}
			atomic_fetch_add(&board->children, 1);
		}
		usleep(200);
	}
}

static bool moves(atomic_ulong *counter)
{
	unsigned long before = atomic_load(counter);
	uint64_t deadline = now_ns() + WAIT_NS;

	while (now_ns() < deadline) {
		if (atomic_load(counter) != before)
			return true;
		usleep(1000);
	}
	return false;
}

static bool stands(atomic_ulong *counter)
{
	unsigned long before = atomic_load(counter);

	usleep(60000);
	return atomic_load(counter) == before;
}

static bool reaches(atomic_ulong *counter, unsigned long value)
{
	uint64_t deadline = now_ns() + WAIT_NS;

	while (atomic_load(counter) < value && now_ns() < deadline)
		usleep(1000);
	return atomic_load(counter) >= value;
}

static char state_of(pid_t pid)
{
	struct proc_stat s;

	return proc_read_stat(pid, &s, NULL) == 0 ? s.state : '-';
}

static bool gets_state(pid_t pid, const char *states)
{
	uint64_t deadline = now_ns() + WAIT_NS;

	/* Looked at once a turn: a stop on the way to another is seen, and gone the next moment. */
	while (!strchr(states, state_of(pid))) {
		if (now_ns() >= deadline)
			return false;
		usleep(1000);
	}
	return true;
}

/* Its threads stop one after another. */
static bool comes_to_stand(atomic_ulong *counter)
{
	uint64_t deadline = now_ns() + WAIT_NS;

	while (!stands(counter))
		if (now_ns() >= deadline)
			return false;
	return true;
}

struct scene {
	pid_t pid;
	struct proc_id id;
	struct ptrace_hold *hold;
};

static void scene_start(struct scene *s)
{
	size_t n_new = 0;

	board = board_new();
	s->pid = child_start();
	cr_assert(moves(&board->thread_steps));
	cr_assert_eq(proc_identify(s->pid, &s->id, NULL), 0);
	cr_assert_eq(ptrace_hold_new(&s->hold, NULL), 0);
	cr_assert_eq(ptrace_hold_seize(s->hold, &s->id, 1, &n_new, NULL), 0);
	cr_assert_eq(n_new, 1);
}

static void scene_stop(struct scene *s)
{
	size_t running = 99;

	cr_assert_eq(ptrace_hold_stop(s->hold, NS_PER_S, &running), 0);
	cr_assert_eq(running, 0);
}

static void scene_end(struct scene *s)
{
	ptrace_hold_free(s->hold);
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
}

Test(ptrace_hold, runs_stops_runs)
{
	_cleanup_free_ struct ptrace_held *held = NULL;
	struct scene s;
	size_t n;

	scene_start(&s);
	cr_expect(moves(&board->steps) && moves(&board->thread_steps), "armed: it runs");
	scene_stop(&s);
	cr_expect(stands(&board->steps) && stands(&board->thread_steps));
	cr_expect_eq(state_of(s.pid), 't');
	cr_assert_eq(ptrace_hold_list(s.hold, &held, &n, NULL), 0);
	cr_assert_eq(n, 1);
	cr_expect_eq(held[0].id.pid, s.pid);
	cr_expect_eq(held[0].threads, 2);
	cr_expect_eq(held[0].stopped, 2);
	cr_expect_eq(held[0].running, 0);
	ptrace_hold_free(steal_ptr(s.hold));
	cr_expect_neq(state_of(s.pid), 't', "detached when free returns");
	cr_expect(moves(&board->steps) && moves(&board->thread_steps));
	scene_end(&s);
}

Test(ptrace_hold, a_second_look_finds_nothing_new)
{
	struct scene s;
	size_t n_new = 9;

	scene_start(&s);
	cr_assert_eq(ptrace_hold_seize(s.hold, &s.id, 1, &n_new, NULL), 0);
	cr_expect_eq(n_new, 0);
	scene_end(&s);
}

Test(ptrace_hold, children_born_armed_run_and_then_stop)
{
	_cleanup_free_ struct ptrace_held *held = NULL;
	struct scene s;
	size_t n;

	scene_start(&s);
	atomic_store(&board->fork_now, 1);
	cr_assert(reaches(&board->children, 1));
	cr_assert(moves(&board->child_steps), "a child of a seized process runs");
	scene_stop(&s);
	cr_expect(stands(&board->steps) && stands(&board->child_steps));
	cr_assert_eq(ptrace_hold_list(s.hold, &held, &n, NULL), 0);
	cr_expect_eq(n, 2);
	ptrace_hold_free(steal_ptr(s.hold));
	cr_expect(moves(&board->steps) && moves(&board->child_steps));
	scene_end(&s);
}

Test(ptrace_hold, signals_pass_while_armed)
{
	struct scene s;
	uint64_t start;

	scene_start(&s);
	start = now_ns();
	for (unsigned long i = 1; i <= 200; i++) {
		kill(s.pid, SIGUSR1);
		cr_assert(reaches(&board->signals, i));
	}
	cr_expect_lt(now_ns() - start, 3 * NS_PER_S);
	/* The last one may have arrived before it is counted. */
	while (ptrace_hold_events(s.hold) < 200 && now_ns() - start < WAIT_NS)
		usleep(1000);
	cr_expect_geq(ptrace_hold_events(s.hold), 200);
	scene_end(&s);
}

Test(ptrace_hold, signals_during_the_stop_come_after_it)
{
	struct scene s;

	scene_start(&s);
	scene_stop(&s);
	kill(s.pid, SIGUSR1);
	cr_expect(stands(&board->signals));
	ptrace_hold_free(steal_ptr(s.hold));
	cr_expect(reaches(&board->signals, 1));
	scene_end(&s);
}

Test(ptrace_hold, no_signal_is_lost_around_stop_and_end)
{
	struct scene s;

	board = board_new();
	scene_start(&s);
	for (unsigned long i = 1; i <= 40; i++) {
		size_t n_new, running;

		kill(s.pid, SIGUSR1);
		cr_assert_eq(ptrace_hold_stop(s.hold, NS_PER_S, &running), 0);
		ptrace_hold_free(steal_ptr(s.hold));
		cr_assert(reaches(&board->signals, i), "signal %lu", i);
		cr_assert_eq(ptrace_hold_new(&s.hold, NULL), 0);
		cr_assert_eq(ptrace_hold_seize(s.hold, &s.id, 1, &n_new, NULL), 0);
	}
	scene_end(&s);
}

Test(ptrace_hold, a_group_stop_stays_one)
{
	struct scene s;

	scene_start(&s);
	kill(s.pid, SIGSTOP);
	cr_expect(gets_state(s.pid, "tT"));
	cr_expect(comes_to_stand(&board->steps));
	scene_stop(&s);
	ptrace_hold_free(steal_ptr(s.hold));
	cr_expect(gets_state(s.pid, "T"), "state %c", state_of(s.pid));
	cr_expect(stands(&board->steps));
	kill(s.pid, SIGCONT);
	cr_expect(moves(&board->steps));
	scene_end(&s);
}

Test(ptrace_hold, continues_from_a_group_stop_while_armed)
{
	struct scene s;

	scene_start(&s);
	kill(s.pid, SIGSTOP);
	cr_expect(gets_state(s.pid, "tT"));
	kill(s.pid, SIGCONT);
	cr_expect(moves(&board->steps) && moves(&board->thread_steps));
	scene_end(&s);
}

static bool gets_empty(struct ptrace_hold *hold)
{
	uint64_t deadline = now_ns() + WAIT_NS;
	size_t n;

	do {
		_cleanup_free_ struct ptrace_held *held = NULL;

		cr_assert_eq(ptrace_hold_list(hold, &held, &n, NULL), 0);
		usleep(1000);
	} while (n > 0 && now_ns() < deadline);
	return n == 0;
}

Test(ptrace_hold, a_kill_ends_what_is_held)
{
	struct scene s;

	scene_start(&s);
	scene_stop(&s);
	kill(s.pid, SIGKILL);
	cr_expect(gets_empty(s.hold));
	cr_expect(gets_state(s.pid, "-Z"));
	scene_end(&s);
}

/* The parent is a process of its own, since a tracer that is the parent too sees all by itself. */
Test(ptrace_hold, exec_and_exit_pass)
{
	struct proc_id id = {0};
	struct ptrace_hold *hold;
	int go[2], told[2], status = 0;
	size_t n_new;
	pid_t parent;

	cr_assert_eq(pipe(go), 0);
	cr_assert_eq(pipe(told), 0);
	parent = fork();
	if (parent == 0) {
		pid_t pid = fork();
		char c;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (pid == 0) {
			(void)!read(go[0], &c, 1);
			execl("/bin/sh", "sh", "-c", "sleep 0.1; exit 7", NULL);
			_exit(1);
		}
		(void)!write(told[1], &pid, sizeof(pid));
		waitpid(pid, &status, 0);
		(void)!write(told[1], &status, sizeof(status));
		_exit(0);
	}
	cr_assert_eq(read(told[0], &id.pid, sizeof(id.pid)), sizeof(id.pid));
	cr_assert_eq(proc_identify(id.pid, &id, NULL), 0);
	cr_assert_eq(ptrace_hold_new(&hold, NULL), 0);
	cr_assert_eq(ptrace_hold_seize(hold, &id, 1, &n_new, NULL), 0);
	(void)!write(go[1], "x", 1);
	cr_assert_eq(read(told[0], &status, sizeof(status)), sizeof(status));
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 7, "status %x", status);
	cr_expect(gets_empty(hold));
	ptrace_hold_free(hold);
	waitpid(parent, NULL, 0);
}

Test(ptrace_hold, another_tracer_is_named)
{
	_cleanup_err_ struct err *err = NULL;
	struct ptrace_hold *second;
	struct scene s;
	size_t n_new;
	char text[32];

	scene_start(&s);
	cr_assert_eq(ptrace_hold_new(&second, NULL), 0);
	cr_expect_eq(ptrace_hold_seize(second, &s.id, 1, &n_new, &err), -EBUSY);
	snprintf(text, sizeof(text), "traced by process %d", ptrace_hold_tracer(s.hold));
	cr_expect(strstr(err_text(err), text), "%s", err_text(err));
	ptrace_hold_free(second);
	cr_expect(moves(&board->steps));
	scene_end(&s);
}

static int state_there(void *data)
{
	return state_of(*(pid_t *)data);
}

/* Each as it was before: running, or in a group stop of its own, which stays. */
Test(ptrace_hold, a_pause_ends_as_it_began)
{
	struct scene s;

	scene_start(&s);
	cr_expect(ptrace_hold_find(ptrace_hold_tracer(s.hold)) == s.hold);
	for (int i = 0; i < 20; i++) {
		ptrace_hold_pause(s.hold, NS_PER_S);
		cr_expect_eq(ptrace_hold_call(s.hold, state_there, &s.pid), 't');
		ptrace_hold_resume(s.hold);
		cr_assert(moves(&board->steps) && moves(&board->thread_steps));
	}
	kill(s.pid, SIGSTOP);
	cr_assert(comes_to_stand(&board->steps));
	ptrace_hold_pause(s.hold, NS_PER_S);
	ptrace_hold_resume(s.hold);
	cr_expect(stands(&board->steps) && stands(&board->thread_steps));
	kill(s.pid, SIGCONT);
	cr_expect(moves(&board->steps) && moves(&board->thread_steps));
	scene_end(&s);
	cr_expect_null(ptrace_hold_find(getpid()));
}

Test(ptrace_hold, a_pause_does_not_end_a_stop)
{
	struct scene s;

	scene_start(&s);
	scene_stop(&s);
	ptrace_hold_pause(s.hold, NS_PER_S);
	ptrace_hold_resume(s.hold);
	cr_expect(stands(&board->steps) && stands(&board->thread_steps));
	scene_end(&s);
}

Test(ptrace_hold, passes_over_what_is_gone_and_refuses_itself)
{
	struct ptrace_hold *hold;
	struct proc_id ids[2] = {{.pid = 2000000000, .start_ticks = 1}};
	size_t n_new = 9;
	struct scene s;

	scene_start(&s);
	ids[1] = s.id;
	ids[1].start_ticks++;
	cr_assert_eq(ptrace_hold_new(&hold, NULL), 0);
	cr_expect_eq(ptrace_hold_seize(hold, ids, 2, &n_new, NULL), 0);
	cr_expect_eq(n_new, 0);
	cr_assert_eq(proc_identify(getpid(), &ids[0], NULL), 0);
	cr_expect_eq(ptrace_hold_seize(hold, ids, 1, &n_new, NULL), -EPERM);
	ids[0].pid = 1;
	cr_expect_eq(ptrace_hold_seize(hold, ids, 1, &n_new, NULL), -EPERM);
	ptrace_hold_free(hold);
	scene_end(&s);
}

Test(ptrace_hold, new_ones_stop_at_once_after_the_stop)
{
	struct ptrace_hold *hold;
	struct scene s;
	size_t n_new, running;

	scene_start(&s);
	ptrace_hold_free(steal_ptr(s.hold));
	cr_assert_eq(ptrace_hold_new(&hold, NULL), 0);
	cr_assert_eq(ptrace_hold_stop(hold, NS_PER_S, &running), 0);
	cr_expect_eq(running, 0);
	cr_assert_eq(ptrace_hold_seize(hold, &s.id, 1, &n_new, NULL), 0);
	cr_expect(gets_state(s.pid, "t"));
	cr_expect(stands(&board->steps) && stands(&board->thread_steps));
	s.hold = hold;
	scene_end(&s);
}

Test(ptrace_hold, the_tracers_death_lets_go)
{
	struct proc_id id;
	int ready[2];
	pid_t pid, agent;
	char c;

	board = board_new();
	pid = child_start();
	cr_assert(moves(&board->thread_steps));
	cr_assert_eq(proc_identify(pid, &id, NULL), 0);
	cr_assert_eq(pipe(ready), 0);
	agent = fork();
	if (agent == 0) {
		struct ptrace_hold *hold;
		size_t n_new, running;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ptrace_hold_new(&hold, NULL) == 0 &&
		    ptrace_hold_seize(hold, &id, 1, &n_new, NULL) == 0 &&
		    ptrace_hold_stop(hold, NS_PER_S, &running) == 0 && running == 0)
			(void)!write(ready[1], "x", 1);
		for (;;)
			pause();
	}
	cr_assert_eq(read(ready[0], &c, 1), 1);
	cr_expect(stands(&board->steps));
	kill(pid, SIGUSR1);
	kill(agent, SIGKILL);
	waitpid(agent, NULL, 0);
	cr_expect(moves(&board->steps) && moves(&board->thread_steps));
	cr_expect(reaches(&board->signals, 1));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
