/*
 * One execution of a drill: guards, probes, steps, revert, recovery, ledger, verdict. It owns the
 * record while it runs. Everything happens on the session's loop; what waits, pumps it.
 */
#pragma once

#include <stdio.h>
#include "drill/drill.h"
#include "probe/probe.h"
#include "run/cluster.h"
#include "run/cluster_lock.h"
#include "run/run_record.h"
#include "run/ways.h"
#include "verdict/verdict.h"

/* An id of a drill's run begins so; one of an injection does not. */
#define RUN_ID_PREFIX "run-"

struct run_options {
	const char *out;		/* the run's folder; NULL: pgjolt-runs/RUN */
	const char *conninfo;
	const char *user_secret;	/* NAMESPACE/NAME of a Secret to log in by; NULL */
	const char *cluster, *manager;	/* NULL: found */
	uint64_t seed;			/* of the picks */
	bool json;			/* the timeline goes to stderr */
	bool keep;			/* the probe's schema stays */
};

/* An agent's time on our clock, mapped when it was first told. */
struct mapped_time {
	uint64_t agent_ns, local_ns, uncertainty_ns;
};

/* One fault on one instance within the run, as its agent knows it. */
struct run_experiment {
	char *id;
	const struct step *step;
	struct agent_link *link;
	size_t fault;			/* index in record->faults */
	enum experiment_state state;
	bool fire_pending, fired, fire_failed, ended, stale;	/* stale: ask the agent again */
	bool revert_pending;
	bool let_go;			/* its revert was asked for: the lease is renewed no more */
	uint64_t renewed_ns;
	struct mapped_time armed, fired_at, reverted;
};

struct run {
	const struct run_options *options;
	const struct drill *drill;
	struct session *session;
	struct cluster cluster;
	struct run_record *record;
	struct probes *probes;
	struct ways ways;		/* in Kubernetes */
	char *folder;
	int lock_fd;
	char *lock_path;		/* with lock_fd */
	struct cluster_lock *cluster_lock;	/* in Kubernetes */
	FILE *events_file;
	struct timeline *timeline;
	size_t events_shown;
	sd_event_source *renewing, *on_int, *on_term, *on_hup, *agent_death, *clocking;

	struct run_experiment **experiments;	/* frames and answers keep the pointers */
	size_t n_experiments;
	unsigned next_experiment;
	struct run_follower *followers;	/* one a link of the session */
	struct answer_to *answers;	/* that are still to come from agents */

	/* What was seen last. */
	struct observation *seen;	/* by instance; at_ns 0: never */
	uint64_t write_ok_ns, read_ok_ns, write_tried_ns;
	bool write_failing;
	int primary_at_fire;		/* index; -1: unknown */
	uint32_t timeline_at_fire;
	uint64_t fired_ns;		/* of the last fault */

	bool interrupted;
	bool hurry;			/* interrupted again: nothing is waited for any more */
	uint64_t hurry_ns;		/* since when */
	bool all_gone;			/* no instance of the cluster is left */
	uint64_t gone_since_ns, gone_asked_ns;
	char *abort_why;		/* set: stop the steps, revert, report */
	bool aborted;			/* all is reverted: its conditions abort it no more */
	bool agent_lost;		/* one of them at least: see run_agent_is_lost() */
};

/* Runs it. *ret is the record with everything in it, also for a run that was refused or aborted
 * once it had begun; an error before that (bad conninfo, no cluster) is returned. */
int run_execute(struct session *s, const struct drill *d, const struct run_options *o,
	struct run_record **ret, char **ret_folder, struct err **err);
/* Prints the exact instances, peers and effects; touches nothing. json: as one document. */
int run_dry(struct session *s, const struct drill *d, const struct run_options *o, bool json,
	FILE *f, struct err **err);

/* ---- for the files of this room ---- */

/* turn.c: one turn of the loop (at most timeout_ns), leases, timeline, abort conditions. */
int run_turn(struct run *r, uint64_t timeout_ns, struct err **err);
/* Turns until the condition holds: 0; -ETIMEDOUT after limit; -ECANCELED when aborted. */
int run_wait(struct run *r, bool (*holds)(struct run *r, void *data), void *data,
	uint64_t limit_ns, struct err **err);
void run_abort(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds to the reason why it is aborted. */
void run_abort_more(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void run_note(struct run *r, enum event_kind kind, int instance, const char *value,
	const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Events that were not shown yet, and the line of status. */
void run_show(struct run *r);

int run_instance_index(const struct run *r, const char *name);

/* signals.c. Of a signal: the first one ends the run, the next one its waiting. */
void run_interrupt(struct run *r);
/* SIGINT, SIGTERM and SIGHUP (a closed terminal; not where it is ignored, as under nohup). */
int run_watch_signals(struct run *r, sd_event_signal_handler_t handler, struct err **err);
/* These, and the end of an agent of our own: each aborts the run. */
int run_watch_ends(struct run *r, struct err **err);
/* What is coming just when nothing is waited for any more is still taken. */
#define RUN_HURRY_NS (1 * NS_PER_S)
/* Frees what the struct holds, not the struct. */
void run_done(struct run *r);

/* guards.c: -EPERM class with words: the run is refused. */
int run_guards(struct run *r, struct err **err);
/* Those of a single fault: the nodes can do it and take faults now. */
int run_guards_inject(struct run *r, struct err **err);
/* Other runs of this cluster on this host, where alone; else only runs, not injections. The lock is freed
 * by the kernel when we end, its file stays if we are killed. Needs r->cluster. */
int run_lock(struct run *r, bool alone, struct err **err);
void run_unlock(struct run *r);

/* guards_kube.c: refused where a member of the cluster runs on a node without an agent that answers. */
int run_guard_agents(const struct run *r, struct err **err);

/* gone.c: aborts the run when no instance of its cluster is there any more. */
void run_check_gone(struct run *r);

/* watch.c: prepares and starts the probes, the manager's watch and the agents' events. */
int run_watch(struct run *r, struct err **err);

/* How often each instance's state and each manager's view are asked for. */
#define RUN_POLL_NS	(50 * NS_PER_MS)
#define RUN_MANAGER_MS	200

/* steps.c */
int run_steps(struct run *r, struct err **err);

/* targets.c: the instances that a selector names now. Borrowed pointers, caller frees the array. */
int run_pick(struct run *r, const struct selector *s, const struct target ***ret, size_t *ret_count,
	struct err **err);

/* How long a fault outlives a coordinator that does not renew it. */
#define RUN_LEASE_MS 5000

/* arm.c: on all of a step's targets at the same time. */
int run_arm(struct run *r, const struct step *s, struct run_experiment ***ret, size_t *ret_count,
	struct err **err);

/* faults.c */
int run_fire(struct run *r, struct run_experiment *e, struct err **err);
bool run_faults_active(const struct run *r);
void run_renew(struct run *r);
/* Renews by a timer of the loop: also while a call to one agent is waited for. */
int run_renew_start(struct run *r, struct err **err);
/* Asks its agent how it is; the answer goes into the record. */
void run_ask(struct run *r, struct run_experiment *e);
/* What the agent says now goes into the record. */
void run_take_info(struct run *r, struct run_experiment *e, const struct experiment_info *info);
struct run_experiment *run_experiment_find(struct run *r, const char *id);

/* Whom an answer is for: the experiment may be looked up again then. */
struct answer_to {
	struct run *run;
	struct answer_to *next;
	char *id;
};
struct answer_to *run_answer_new(struct run *r, const char *id);
void run_answer_free(struct answer_to *a);
/* Gives up the answers that are still to come. */
void run_forget_answers(struct run *r);

/* select.c: some of the run's experiments, as the agents are asked of them. */
struct run_selection {
	struct agent_link **links;
	const char **ids;
	struct run_experiment **experiments;
	size_t count;
};
/* Of that link (NULL: of all), those that match. */
void run_select(const struct run *r, const struct agent_link *link,
	bool (*matches)(const struct run *r, const struct run_experiment *e), struct run_selection *ret);
void run_selection_done(struct run_selection *s);

/* settle.c */
int run_revert_step(struct run *r, const char *name, struct err **err);
/* Reverts all, bounded; asks the successors of lost agents. Returns how many are not known to be clean: what an
 * agent did not answer to ends with its lease. */
size_t run_settle(struct run *r);
/* Looks again. */
size_t run_settle_again(struct run *r);
bool run_may_be_left(const struct run_experiment *e);
/* Nothing was armed, and no answer is missing; to be asked before it is settled. */
bool run_did_nothing(const struct run *r);
/* A line, or an event, for each that is not known to be reverted. */
void run_tell_left(const struct run *r, FILE *f);
void run_note_left(struct run *r);

/* successor.c: what became of the faults of agents that are gone. Waits, bounded, for those that come after
 * them; an agent of our own is started once more, so that what is in the journal does not wait for later. */
void run_find_successors(struct run *r);

/* finish.c: the end of a run that had begun. */
void run_finish(struct run *r, bool fired);
void run_end_as(struct run *r, enum run_verdict v, const char *why);

/* follow.c: the agents' events, and their clocks, which are measured again as they drift. */
int run_follow_agents(struct run *r, struct err **err);
void run_unfollow_agents(struct run *r);
/* Whether an agent whose stream of events ended is there still; a lost one aborts the run. */
void run_check_agents(struct run *r);
void run_agent_lost(struct run *r, struct agent_link *link, const char *why);
bool run_agent_is_lost(const struct run *r, const struct agent_link *link);

/* conditions.c */
bool run_condition(struct run *r, enum condition c, uint64_t since_ns);
bool run_streaming(const struct run *r, char **ret_why);
uint64_t run_lag_bytes(const struct run *r);
/* That answered just now. */
unsigned run_reachable_instances(const struct run *r);
/* That answered just now and take writes. */
unsigned run_writable_instances(const struct run *r);

/* folder.c */
int run_folder_open(struct run *r, struct err **err);
int run_folder_write(const char *folder, const struct run_record *record, const cJSON *report,
	struct err **err);
