/*
 * The fault catalogue: names, parameters, lifetimes, words. Shared by agent (validates, injects),
 * coordinator (validates, explains) and docs (docs/faults/NAME.md is generated from it).
 */
#pragma once

#include <stddef.h>
#include "core/param.h"
#include "core/string_table.h"

/* What ends the fault when its agent dies. */
enum lifetime {
	LIFETIME_HELD,		/* lives in the agent's descriptors: the kernel ends it at once */
	LIFETIME_EXPIRING,	/* carries its own deadline */
	LIFETIME_JOURNALED,	/* stays until somebody reverts it */
	LIFETIME_MAX,
};
DECLARE_STRING_TABLE(lifetime, enum lifetime);

struct fault_example {
	const char *command;	/* arguments after "pgjolt inject" */
	const char *says;
};

struct fault_spec {
	const char *name;	/* "net-partition" */
	const char *summary;	/* one line */
	const char *description;/* paragraphs for the page of the fault */
	const char *mechanism;	/* how, with kernel version and option */
	const char *needs;	/* kernel options, capabilities */
	const char *leaves;	/* what a killed agent leaves, and for how long */
	enum lifetime lifetime;	/* of the default mechanism */
	const struct param_spec *params;
	size_t n_params;
	const struct fault_example *examples;
	size_t n_examples;
	/* Rules across parameters; NULL if none. -EINVAL with words. */
	int (*check)(const struct params *p, struct err **err);
	/* Parameters that hold peer names for the coordinator to resolve ("peers"); NULL if none. */
	const char *peers_param;
};

extern const struct fault_spec fault_net_partition;
extern const struct fault_spec fault_net_shape;
extern const struct fault_spec fault_dns;
extern const struct fault_spec fault_tls_cert;
extern const struct fault_spec fault_proc_kill;
extern const struct fault_spec fault_proc_freeze;
extern const struct fault_spec fault_conn_reset;
extern const struct fault_spec fault_clock_skew;
extern const struct fault_spec fault_disk_latency;
extern const struct fault_spec fault_disk_error;
extern const struct fault_spec fault_disk_throttle;
extern const struct fault_spec fault_cpu_throttle;
extern const struct fault_spec fault_cpu_stress;
extern const struct fault_spec fault_mem_stress;
extern const struct fault_spec fault_disk_stress;
extern const struct fault_spec fault_disk_fill;

/* clock-skew: the most that monotonic clocks may be ahead, since waits outlast the fault by it. */
#define CLOCK_WAITS_LONGER_MAX_NS 600000000000ULL

/* In each fault's file the lists have these names. */
#define CATALOGUE_LISTS                                                                         \
	.params = params, .n_params = ELEMENTS(params), .examples = examples,                   \
	.n_examples = ELEMENTS(examples)

/* NULL-terminated, in the order that help prints them. */
const struct fault_spec *const *catalogue_faults(void);
/* -EINVAL with the nearest name for an unknown one. */
int catalogue_find(const char *name, const struct fault_spec **ret, struct err **err);
/* Page of a fault for a terminal (80 columns); caller frees. */
char *catalogue_help(const struct fault_spec *spec);
/* docs/faults/NAME.md; caller frees. */
char *catalogue_markdown(const struct fault_spec *spec);
/* The same as data. Caller deletes. */
cJSON *catalogue_json(const struct fault_spec *spec);
/* "100us..10m", "0%..100%", "drop|reject", "at least 1", "" where anything goes; caller frees. */
char *param_range_text(const struct param_spec *p);
