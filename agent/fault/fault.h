/*
 * The central abstraction: one driver a fault.
 *
 * Order of calls: arm, place, then (fire, then any number of observe), then release, revert, verify_clean.
 * The end of a fault is two steps: release() drops what this process holds, which is just what the
 * kernel does when the process dies; revert() undoes the rest and takes only the journal's record.
 * So the normal end, the lease's end, the restart and `revert-all` are one path.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "core/catalogue.h"
#include "core/err.h"
#include "core/wire.h"

/* What a driver may know of the agent. */
struct node {
	sd_event *event;
	const char *name;
	const char *journal_path;	/* NULL where there is none, as for a probe */
	const char *halt_at;	/* crash tests: "FAULT:POINT" or "*:POINT"; else NULL */
	bool without_tcx;	/* tests: as on a kernel before 6.6 */
};

/* Crash tests stop the agent here on purpose (SIGSTOP to itself), then kill it. Every line that
 * touches the kernel has one before and after: "net-partition:attached". Costs a strcmp.
 * Points of every fault, in order: new, arming, armed-unjournaled, armed, firing, fired, active,
 * reverting, released, reverted, verifying, verified, clean. */
void node_point(const struct node *node, const char *fault, const char *point);

/* What the journal keeps of one fault: enough to undo it with nothing else. */
struct undo {
	const struct fault_spec *spec;
	cJSON *record;		/* object, the driver's own; empty for a held fault */
};
void undo_done(struct undo *u);

struct support {
	bool supported;
	char *mechanism;	/* short: "tcx" */
	char *reason;		/* what is missing exactly, or a remark */
};
void support_done(struct support *s);

struct evidence {
	uint64_t hits;		/* 0 while active: the fault hit nothing, and the drill fails */
	cJSON *detail;		/* object: packets and bytes by peer, processes, histogram */
};
void evidence_done(struct evidence *e);

/* One fault on one instance. The driver keeps its own struct in `state`. */
struct fault {
	const struct fault_driver *driver;
	const struct node *node;
	const char *experiment;		/* id */
	const struct instance_info *instance;
	const struct params *params;
	uint64_t duration_ns;
	uint64_t deadline_boot_ns;	/* set before fire: inert after it, whatever happens */
	void *state;
	const char *mechanism;		/* set by arm: static text */
	enum lifetime lifetime;		/* set by arm: of that mechanism */
};

struct fault_driver {
	const struct fault_spec *spec;

	/* Required. Can this node do it, and by which mechanism: tries it for real, leaves nothing.
	 * Returns 0 also for "no" (ret->supported false, reason set). */
	int (*probe)(const struct node *node, struct support *ret, struct err **err);

	/* Required. All that is slow: resolve, load, open. Nothing takes effect. On failure it has
	 * cleaned up after itself. *ret->record is what revert() needs. */
	int (*arm)(struct fault *f, struct undo *ret, struct err **err);

	/* Optional. What must not be there without a record, since it outlives this process: called with
	 * the journal on disk, before the fault counts as armed. Nothing takes effect. u: the record,
	 * which may lose what turned out not to be ours. When it fails, release() and revert()
	 * follow; needs a revert(). */
	int (*place)(struct fault *f, struct undo *u, struct err **err);

	/* Required. One step, atomic for the instance, microseconds. The journal is on disk. */
	int (*fire)(struct fault *f, struct err **err);

	/* Required. Cheap; may be called in any state from armed to active. */
	int (*observe)(const struct fault *f, struct evidence *ret, struct err **err);

	/* Required. Drops what this process holds and frees state. Cannot fail. Takes a fault whose
	 * arm() succeeded, fired or not. */
	void (*release)(struct fault *f);

	/* NULL where nothing outlives release(). Idempotent; knows the record alone; a target that is gone
	 * is success.
	 * -EBADMSG: the record cannot be understood, so that trying again is of no use. */
	int (*revert)(const struct undo *u, struct err **err);

	/* NULL where release() leaves nothing to look for. Looks at the kernel, not at our memory. 0:
	 * clean. -EBADMSG as revert(). Required with revert. */
	int (*verify_clean)(const struct undo *u, struct err **err);

	/* Optional. Asked once the postmaster has ended, from then on twice a second: is nothing left
	 * to act on? A pod whose manager starts PostgreSQL again keeps its namespaces, so a network
	 * fault goes on. Without this operation the fault goes on until its end. */
	bool (*target_is_gone)(const struct fault *f);
};

/* NULL-terminated; checked at start: every operation there, specs in the catalogue. */
const struct fault_driver *const *registry_drivers(void);
int registry_find(const char *name, const struct fault_driver **ret, struct err **err);
int registry_check(struct err **err);
