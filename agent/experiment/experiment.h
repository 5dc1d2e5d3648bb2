/*
 * Experiments: one fault on one instance, and its state machine
 *
 *   new -> armed -> firing -> active -> reverting -> verifying -> clean
 *   new -> refused (before the journal);  reverting|verifying -> stuck -> reverting (retried)
 *   armed|firing -> reverting too; new -> reverting for what the journal held at the start.
 *
 * One setter changes the state; it stamps the time, tells the listener and drops the timers that
 * the new state cannot have. Duration and lease run from arming on (lease) and firing on (duration).
 */
#pragma once

#include <systemd/sd-event.h>
#include "core/wire.h"
#include "experiment/journal.h"
#include "fault/fault.h"

struct experiment;
struct experiments;	/* all of a node */

/* What an agent enforces whatever it is asked. */
struct experiment_limits {
	uint64_t duration_max_ms;	/* default 1 h */
	uint64_t lease_max_ms;		/* default 60 s */
	unsigned concurrent_max;	/* default 32 */
	unsigned instances_of_cluster_max;	/* with active or armed faults at once; 0: no limit */
	uint32_t share_max_ppm;		/* of a cluster's instances likewise; EXPERIMENT_SHARE_ALL: no limit */
	char **faults_allowed;		/* NULL: all */
	char **clusters_allowed;	/* NULL: all; names or globs of instance_info.name */
};

#define EXPERIMENT_DURATION_MAX_MS (60 * 60 * 1000)
#define EXPERIMENT_LEASE_MAX_MS	   (60 * 1000)
#define EXPERIMENT_CONCURRENT_MAX  32
#define EXPERIMENT_SHARE_ALL	   1000000
/* How many of members may be under fault: rounded down, but one at least unless the share is 0. */
unsigned share_allows(uint32_t share_ppm, unsigned members);

/* Called for every event (state changes, errors); the callee copies. */
typedef void (*experiment_listener)(const struct agent_event *e, void *data);

/* What the machine rests on. All borrowed for its lifetime; the two lookups are given so that its
 * tests can put faults and instances of their own in. */
struct experiments_config {
	const struct node *node;	/* node->event: the loop of the timers */
	const char *boot_id;
	struct journal *journal;
	const struct experiment_limits *limits;
	experiment_listener listener;
	void *data;
	int (*find_fault)(const char *name, const struct fault_driver **ret, struct err **err);
	int (*find_instance)(const char *node_name, const char *name, struct instance_info **ret,
		struct err **err);
	/* NULL: none. Adds to the instance what is known elsewhere (Kubernetes), and refuses it where that
	 * says no: -EPERM, -EBUSY. */
	int (*check_target)(struct instance_info *i, const struct arm_request *request, void *data,
		struct err **err);
	/* NULL: none. May a fault that lasts so long be fired there now? -EBUSY. */
	int (*check_fire)(const char *instance, uint64_t duration_ms, void *data, struct err **err);
	/* Those of the node with all that check_target would add, for the share of a cluster; NULL: that is kept
	 * elsewhere (Kubernetes). */
	int (*list_instances)(struct instance_info ***ret, size_t *ret_count, void *data, struct err **err);
};

int experiments_new(const struct experiments_config *config, struct experiments **ret,
	struct err **err);
/* Ends every experiment first (END_SHUTDOWN). */
void experiments_free(struct experiments *all);

/* Reverts what the journal holds. Called once before the first arm. 0 also when some are stuck:
 * those are kept, retried, and experiments_accepting() says why. */
int experiments_replay(struct experiments *all, struct err **err);
/* Ends all, with a bounded number of retries (0.7 s in all). 0 also when some are left stuck, as
 * *ret_left says; experiments_accepting() has the words. END_SHUTDOWN: no new arm from now on. */
int experiments_revert_all(struct experiments *all, enum end_reason reason, size_t *ret_left,
	struct err **err);
bool experiments_accepting(const struct experiments *all, const char **ret_reason);
/* The kill switch: reverts all (END_STOPPED), the newest first, and refuses to arm and to fire with that
 * reason until it is NULL. */
void experiments_lock(struct experiments *all, const char *reason);
/* NULL: it is off. */
const char *experiments_lock_reason(const struct experiments *all);
/* Is the kill switch all that stands in the way? */
bool experiments_is_locked(const struct experiments *all);

/* Validates, resolves the instance, checks limits, arms the driver, writes the journal.
 * An id names one attempt. While that is there, the same body again answers with it, a refusal
 * included (safe to retry). -EEXIST: another body, or the attempt has ended; ids are remembered
 * long after the list forgot them (id_memory.h), by the next agent too (id_file.h). *ret is borrowed until the next arm. */
int experiment_arm(struct experiments *all, const struct arm_request *request,
	struct experiment **ret, struct err **err);
/* Idempotent once active. -ESTALE when the target is gone or the experiment has ended. */
int experiment_fire(struct experiment *e, struct err **err);
int experiment_renew(struct experiment *e, uint64_t lease_ms, struct err **err);
/* Starts the end; the state is clean (or stuck) on return for all drivers of today. Idempotent. */
int experiment_revert(struct experiment *e, enum end_reason reason, struct err **err);

/* -ENOENT, or -ESTALE: it has ended and the list has forgotten it. */
int experiments_find(struct experiments *all, const char *id, struct experiment **ret,
	struct err **err);
/* The instance that it was armed for, by name. */
const char *experiment_instance(const struct experiment *e);
/* How long the faults on an instance may go on at most if nothing is said any more; 0: it has none. */
uint64_t experiments_busy_ms(const struct experiments *all, const char *instance);
/* Includes the last 256 that ended. Borrowed pointers, in order of creation; caller frees the array. */
int experiments_list(struct experiments *all, struct experiment ***ret, size_t *ret_count);
/* Caller frees. */
struct experiment_info *experiment_describe(struct experiment *e);
