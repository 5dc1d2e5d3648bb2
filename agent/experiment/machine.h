/* What the files of this room share: the structs, the one setter, the admission of a request. */
#pragma once

#include "experiment/experiment.h"
#include "experiment/id_file.h"
#include "kernel/proc.h"

#define EXPERIMENT_ENDED_KEPT 256

struct experiments {
	struct experiments_config config;
	struct experiment **list;	/* in order of creation */
	size_t count, capacity;
	char **bad;			/* names of the journal's broken entries */
	char *reason;			/* of the last experiments_accepting() */
	bool stopping;
	char *lock_reason;		/* the kill switch is on; NULL: off */
	struct id_memory *ids;		/* that were ever used here */
	struct id_file *id_file;	/* the same, for the next agent */
};

struct experiment {
	struct experiments *all;
	char *id, *run, *fault_name, *instance_name;
	uint64_t request;		/* digest of the one that armed it; 0 after a replay */
	const struct fault_driver *driver;
	struct instance_info *instance;	/* NULL after a replay */
	struct params *params;		/* likewise */
	struct fault fault;
	struct undo undo;
	struct evidence evidence;	/* the last one seen; kept when it ends */
	struct proc_id postmaster;
	enum experiment_state state;
	enum end_reason end_reason;
	bool held;			/* armed by the driver and not yet released */
	bool fired;
	bool retrying;			/* a stuck one's next try: no news unless it ends otherwise */
	int refusal;			/* negative errno of a refused one */
	char *error;			/* last error's words */
	uint64_t created_ns, armed_ns, fired_ns, reverted_ns, verified_ns, fire_duration_ns;
	uint64_t duration_ms;
	uint64_t lease_end_boot_ns;
	uint64_t retry_ns;
	int target_fd;			/* pidfd of the postmaster */
	sd_event_source *duration_timer, *lease_timer, *retry_timer, *target_watch, *gone_timer;
};

struct experiment *experiment_new(struct experiments *all, const char *id, const char *run,
	const char *fault, const char *instance);
void experiment_free(struct experiment *e);

/* The only place where the state changes. A change that the table does not have is a bug and aborts:
 * a dead agent is cleaned up after, one in a state that nobody thought of is not. detail may be NULL. */
void experiment_set_state(struct experiment *e, enum experiment_state to, const char *detail);
bool experiment_state_may_follow(enum experiment_state from, enum experiment_state to);
/* Armed to stuck: something of it is, or may be, in the kernel. */
bool experiment_is_live(const struct experiment *e);
bool experiment_is_ended(const struct experiment *e);

/* Everything but the driver: form, limits, instance, rules. Fills driver, params and instance. */
int experiment_admit(struct experiment *e, const struct arm_request *request, struct err **err);

/* Release, revert, verify, forget. A negative errno: it is stuck. */
int experiment_end(struct experiment *e, struct err **err);

/* Timers and the watch on the postmaster, for the states that have them. */
int experiment_clocks_new(struct experiment *e, struct err **err);
void experiment_lease_start(struct experiment *e, uint64_t lease_ms);
void experiment_duration_start(struct experiment *e);
void experiment_retry_start(struct experiment *e);
/* Drops those that this state cannot have. */
void experiment_clocks_drop(struct experiment *e);

void experiments_add(struct experiments *all, struct experiment *e);
void experiments_remove(struct experiments *all, struct experiment *e);
/* e and state may be NULL. */
void experiments_tell(struct experiments *all, const char *kind, const struct experiment *e,
	const char *state, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
