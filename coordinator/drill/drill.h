/*
 * A drill: a file of steps, faults and expectations. Read from YAML with every error as
 * file:line:column and what was expected; the format is in docs/drills.md.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/catalogue.h"
#include "core/err.h"
#include "yaml/yaml_tree.h"
#include "verdict/expectation.h"

/* Which instances: by name, or by role and pick. */
enum select_role { SELECT_PRIMARY, SELECT_REPLICA, SELECT_ANY, SELECT_ROLE_MAX };
enum select_pick { PICK_ONE, PICK_ALL, PICK_COUNT, PICK_PERCENT, SELECT_PICK_MAX };

struct selector {
	char *text;		/* as written: "primary", "replica:all", "replica:50%", "lab/pg1" */
	char *name;		/* instance; else NULL and the rest counts */
	enum select_role role;
	enum select_pick pick;
	uint32_t pick_count;	/* or ppm */
};

/* "primary", "replica", "any", each with ":one", ":all", ":COUNT", ":PERCENT%"; "replicas" and
 * "all" for "replica:all" and "any:all"; or an instance's name. */
int selector_parse(const char *text, struct selector *ret, struct err **err);
void selector_done(struct selector *s);

enum step_kind {
	STEP_INJECT, STEP_WAIT, STEP_REVERT, STEP_SEQUENCE, STEP_PARALLEL, STEP_REPEAT, STEP_KIND_MAX
};

enum condition {
	WAIT_PROMOTED,		/* another instance than the last primary left recovery */
	WAIT_DEMOTED,		/* the last primary takes no writes any more */
	WAIT_STREAMING,		/* full redundancy: every instance but the primary streams */
	WAIT_WRITES,		/* clients' writes work */
	WAIT_READS,
	WAIT_REVERTED,		/* no fault of the run is active */
	WAIT_TIME,
	CONDITION_MAX
};
DECLARE_STRING_TABLE(condition, enum condition);

struct step {
	enum step_kind kind;
	struct place place;
	char *name;			/* inject: to revert it by; may be NULL */
	/* inject */
	const struct fault_spec *fault;
	struct selector target;
	cJSON *params;			/* peers still as names */
	uint64_t duration_ns;
	bool may_miss;			/* no failure when it hits nothing */
	/* wait */
	enum condition condition;
	uint64_t limit_ns;		/* or how long, for time */
	bool may_fail;			/* going on after the limit is no failure */
	/* revert */
	char *reverts;			/* name of an inject step; NULL: all */
	/* sequence, parallel, repeat */
	unsigned count;
	struct step *steps;
	size_t n_steps;
};

struct drill {
	char *file;
	char *name, *summary, *expected;
	char **sources;			/* incidents and issues that it comes from */
	struct yaml_var *vars;
	size_t n_vars;
	/* steady state before the first step */
	unsigned steady_instances;	/* at least; 0: all that were found */
	uint64_t steady_lag_bytes;
	uint64_t steady_for_ns;
	uint64_t steady_limit_ns;	/* how long to wait for it */
	/* probes; 0: the default */
	uint64_t interval_ns, fresh_interval_ns, slow_ns;
	struct step *steps;
	size_t n_steps;
	uint64_t recovery_limit_ns;	/* after the last step, until full redundancy */
	struct expectation *expectations;
	size_t n_expectations;
	/* abort conditions; 0: none */
	uint64_t abort_lag_bytes, abort_time_ns, abort_writes_down_ns;
};

void drill_free(struct drill *d);
DEFINE_CLEANUP(struct drill, drill_free)

/* name: a file's path (with "/" or ".yaml"/".yml") or a built-in drill. sets: "k=v", NULL-terminated
 * or NULL. -EINVAL with FILE:LINE:COLUMN of the first error. */
int drill_load(const char *name, char *const *sets, struct drill **ret, struct err **err);
int drill_parse(const char *file, const char *text, size_t length, char *const *sets,
	struct drill **ret, struct err **err);

/* Built in at build time from drills/NAME.yaml. */
struct builtin_drill {
	const char *name;
	const unsigned char *text;
	size_t length;
};
/* Ends with name NULL. */
extern const struct builtin_drill builtin_drills[];

/* YAML of the drill as it will run: variables set, defaults filled in. Caller frees. */
char *drill_to_yaml(const struct drill *d);
