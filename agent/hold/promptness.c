#include "hold/promptness.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "hold/gate.h"

/* A look at the schedstat takes half a microsecond. */
#define CHECK_EVENTS  64
#define CHECK_NS      (10 * NS_PER_MS)
/* A turn: more than not being real-time spares. */
#define WAIT_MAX_NS   (20 * NS_PER_US)
#define BACKOFF_MIN   NS_PER_S
#define BACKOFF_MAX   (64 * NS_PER_S)
#define SKIP_MAX      256

static bool set_level(struct promptness *p, enum prompt_level level)
{
	/* Who spins takes no more than its share; who sleeps is to be woken at once. */
	static const int nice[] = {[PROMPT_REAL_TIME] = -20, [PROMPT_ORDINARY] = -20, [PROMPT_SPINNING] = 0};
	const struct sched_param param = {.sched_priority = level == PROMPT_REAL_TIME ? 1 : 0};

	if (pthread_setschedparam(pthread_self(), param.sched_priority ? SCHED_FIFO : SCHED_OTHER,
		    &param) != 0 ||
	    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice[level]) < 0)
		return false;
	p->level = level;
	return true;
}

void promptness_init(struct promptness *p, const char *name)
{
	*p = (struct promptness){.stat_fd = -1};
	for (int i = 0; i < PROMPT_LEVEL_MAX; i++)
		p->trials[i].backoff_ns = BACKOFF_MIN;
	gate_thread_be_prompt(name);
	if (sched_getscheduler(0) == SCHED_FIFO)
		p->stat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

void promptness_done(struct promptness *p)
{
	closep(&p->stat_fd);
	p->stat_fd = -1;
}

bool promptness_parse(const char *text, uint64_t *ret_waited_ns, uint64_t *ret_turns)
{
	uint64_t waited, turns;

	if (sscanf(text, "%*u %" SCNu64 " %" SCNu64, &waited, &turns) != 2)
		return false;
	*ret_waited_ns = waited;
	*ret_turns = turns;
	return true;
}

static bool look(struct promptness *p, uint64_t now, uint64_t *ret_waited_ns, uint64_t *ret_turns)
{
	uint64_t waited, turns;
	char text[80];
	ssize_t n = pread(p->stat_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	if (!promptness_parse(text, &waited, &turns))
		return false;
	*ret_waited_ns = waited - p->waited_ns;
	*ret_turns = turns - p->turns;
	p->waited_ns = waited;
	p->turns = turns;
	p->checked_ns = now;
	return true;
}

static void become_real_time(struct promptness *p)
{
	p->passed = 0;
	/* No longer allowed: it stays as it is, and does not spin. */
	if (p->level != PROMPT_REAL_TIME && !set_level(p, PROMPT_REAL_TIME)) {
		p->level = PROMPT_ORDINARY;
		promptness_done(p);
	}
}

static void try_level(struct promptness *p, enum prompt_level level, uint64_t now)
{
	if (set_level(p, level))
		p->trials[level].since_ns = now;
	else
		promptness_done(p);
}

static bool may_try(const struct promptness *p, enum prompt_level level, uint64_t now)
{
	return now >= p->trials[level].until_ns;
}

/* The longer it went well, the sooner it is tried again. */
static void give_up(struct promptness *p, uint64_t now)
{
	struct prompt_trial *t = &p->trials[p->level];

	if (now - t->since_ns > t->backoff_ns)
		t->backoff_ns = BACKOFF_MIN;
	else if (t->backoff_ns < BACKOFF_MAX)
		t->backoff_ns *= 2;
	t->until_ns = now + t->backoff_ns;
	if (p->level == PROMPT_SPINNING && may_try(p, PROMPT_ORDINARY, now))
		try_level(p, PROMPT_ORDINARY, now);
	else
		become_real_time(p);
}

void promptness_hold(struct promptness *p)
{
	become_real_time(p);
}

static void leave_real_time(struct promptness *p, uint64_t now)
{
	uint64_t ignored;

	p->passed = 0;
	/* A kernel that does not count (CONFIG_SCHED_INFO): it would never be found out. */
	if (!look(p, now, &ignored, &ignored) || p->turns == 0)
		promptness_done(p);
	else
		try_level(p, PROMPT_ORDINARY, now);
}

void promptness_pass(struct promptness *p, uint64_t now)
{
	uint64_t waited, turns;

	if (p->stat_fd < 0)
		return;
	p->passed++;
	if (p->level == PROMPT_REAL_TIME) {
		if (p->passed >= PROMPT_PASSED_ENOUGH && may_try(p, PROMPT_ORDINARY, now))
			leave_real_time(p, now);
		return;
	}
	if (p->passed % CHECK_EVENTS != 0 && now - p->checked_ns < CHECK_NS)
		return;
	/* Who spins and is made to wait has kept another from running, too. */
	if (!look(p, now, &waited, &turns) || waited > turns * WAIT_MAX_NS)
		give_up(p, now);
	else if (p->level == PROMPT_ORDINARY && may_try(p, PROMPT_SPINNING, now))
		try_level(p, PROMPT_SPINNING, now);
}

bool promptness_spins(struct promptness *p)
{
	if (p->level != PROMPT_SPINNING)
		return false;
	if (p->to_skip > 0) {
		p->to_skip--;
		return false;
	}
	return true;
}

void promptness_spun(struct promptness *p, bool found)
{
	if (found)
		p->skip = 0;
	else
		p->skip = p->skip == 0 ? 1 : p->skip < SKIP_MAX ? 2 * p->skip : p->skip;
	p->to_skip = p->skip;
}
