/*
 * How a thread stands towards the scheduler that others wait for, each time for some microseconds: a gate's.
 *
 * A real-time thread runs at once on a busy node. But no ordinary thread is put beside a running real-time one,
 * so the two wake each other across processors: that takes an interrupt, and in a virtual machine several
 * times what the gate does. So the thread is real-time while something is held. When all passes it is ordinary
 * and may lie on the processor of the one that waits for it; while nobody else wants its processor it
 * looks for the next event for as long as a wake-up would take, before it sleeps, and then no wake-up is
 * needed on either side. Whether others want its processor, its schedstat says.
 *
 * All calls come from the thread itself.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* About what a wake-up on another processor takes: looking costs at most what it may spare. */
#define PROMPT_SPIN_NS 20000ULL

/*
 * Events in a row that pass before it is worth while. On a busy node an ordinary thread learns late of
 * what is to be held: where more than some in a hundred are, it stays real-time.
 */
#define PROMPT_PASSED_ENOUGH 128

enum prompt_level { PROMPT_REAL_TIME, PROMPT_ORDINARY, PROMPT_SPINNING, PROMPT_LEVEL_MAX };

/* A level that was given up for the other threads' or its own waiting is tried again later and later. */
struct prompt_trial {
	uint64_t since_ns, until_ns, backoff_ns;
};

struct promptness {
	enum prompt_level level;
	int stat_fd;			/* its schedstat; -1: always real-time */
	unsigned passed;		/* in a row */
	uint64_t checked_ns;
	uint64_t waited_ns, turns;	/* of the schedstat when checked */
	struct prompt_trial trials[PROMPT_LEVEL_MAX];
	unsigned skip, to_skip;		/* events to come without a look, since a look was in vain */
};

/* Real-time to begin with, as far as this node lets it be. name: the thread's. */
void promptness_init(struct promptness *p, const char *name);
void promptness_done(struct promptness *p);
/* Something is held from now on. */
void promptness_hold(struct promptness *p);
/* Something was let pass, and nothing is held. */
void promptness_pass(struct promptness *p, uint64_t now_ns);

/* After an event, with nothing held: is it worth while to look for the next, for PROMPT_SPIN_NS? */
bool promptness_spins(struct promptness *p);
/* It was looked for. */
void promptness_spun(struct promptness *p, bool found);

/*
 * Of a schedstat's line (Documentation/scheduler/sched-stats.rst): how long it waited for a processor, and
 * how often it got one. false if it is none.
 */
bool promptness_parse(const char *text, uint64_t *ret_waited_ns, uint64_t *ret_turns);
