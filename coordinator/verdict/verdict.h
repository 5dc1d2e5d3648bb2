/*
 * From what a run saw to what it means. Pure: no clock, no I/O; the same record gives the same
 * verdict. Definitions of the milestones are in docs/measuring.md and here:
 *   T0 the (first) fault fired, confirmed by its agent   T1 first failed or slow write, clients' way
 *   T2 the manager's first reaction                      T3 a new primary chosen
 *   T4 it left recovery, timeline + 1                    T5 first acknowledged write, clients' way
 *   T6 first read, readers' way                          T7 the old primary follows
 *   T8 full redundancy: all instances stream, lag under its limit
 * A milestone that was not seen is absent, never guessed.
 */
#pragma once

#include "run/run_record.h"
#include "verdict/expectation.h"

enum milestone { T0, T1, T2, T3, T4, T5, T6, T7, T8, MILESTONE_MAX };

enum split_brain_grade {
	SPLIT_NONE,
	SPLIT_CLAIMED,		/* two claimed the role at one time */
	SPLIT_WRITABLE,		/* two accepted writes at one time */
	SPLIT_ACKNOWLEDGED,	/* rows acknowledged on both timelines */
	SPLIT_MAX
};
DECLARE_STRING_TABLE(split_brain_grade, enum split_brain_grade);

struct figure {
	bool known;
	uint64_t ns;
};

/* A time without an acknowledged write (or read) through the clients' way in which one was tried. */
struct outage {
	uint64_t from_ns, to_ns;	/* last acknowledgement, or T0; the next one */
	bool open;			/* none came until the end of the run */
};

struct expectation_result {
	const struct expectation *expectation;
	char *expected, *actual;
	bool passed;
};

struct verdict {
	enum run_verdict verdict;
	char **reasons;			/* why not passed, one line each */
	char **notes;			/* what to know besides, one line each; fails nothing */
	struct figure milestones[MILESTONE_MAX];	/* absolute now_ns(); from T0 = minus T0 */
	struct figure ttd, write_ttr, read_ttr, full_ttr;
	uint64_t write_downtime_ns, read_downtime_ns;
	uint64_t resolution_ns;		/* of the write figures: what could not have been seen */
	uint64_t read_resolution_ns;
	uint64_t manager_resolution_ns;
	uint64_t poll_resolution_ns;	/* of what was seen by SQL: T4, T7, T8 */
	bool writes_failed, reads_failed;	/* after T0, clients' way; slow ones count */
	struct outage *write_outages, *read_outages;
	size_t n_write_outages, n_read_outages;
	bool redundancy_seen;		/* the instances' state was seen after T0 */
	bool redundancy_lost;		/* at any time after T0 */
	enum split_brain_grade split_brain;
	uint64_t dual_claimed_ns;	/* two out of recovery */
	uint64_t dual_writable_ns;
	uint64_t superseded_acks;	/* writes acknowledged on a timeline after a newer one had some */
	int old_primary, new_primary;	/* indexes; -1 */
	uint32_t old_timeline, new_timeline;	/* 0: unknown */
	struct expectation_result *results;
	size_t n_results;
};

/* Always succeeds; what is unknown is unknown. Caller verdict_free()s. */
struct verdict *verdict_compute(const struct run_record *r);
void verdict_free(struct verdict *v);
DEFINE_CLEANUP(struct verdict, verdict_free)
/* 0 passed, 1 failed, 3 refused, 4 aborted, 5 stuck. */
int verdict_exit_code(enum run_verdict v);
