/* The quota that cpu-throttle sets: one that holds the instance back, and never loosens what is there. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

struct cpu_quota {
	uint64_t now_us;	/* of a period at present; UINT64_MAX: no limit */
	uint64_t period_us;
	uint64_t ppm;		/* asked: of one processor */
	uint64_t processors;	/* that it may use */
	const char *group;	/* that has the limit, for words */
	bool cpuset;		/* the processors are those of a cpuset, for words */
};

/* The strictest limit of a group and those above it. */
struct cpu_limit {
	uint64_t quota_us;	/* of period_us; UINT64_MAX: none */
	uint64_t period_us;	/* of the group's own */
	char *folder;		/* where it is; the caller frees */
};
/* Up to the hierarchy's root, which is the folder's first `root` characters. */
int cpu_limit_find(const char *folder, size_t root, bool v2, struct cpu_limit *ret, struct err **err);
/* In "0-3,8": processors; 0 where it cannot be understood. */
uint64_t cpu_list_count(const char *text);
/* Processors of the cpuset of a group, or of the nearest above it that has a file of one; 0: none has. */
uint64_t cpu_set_count(const char *folder, size_t root, bool v2);

/* *ret_us: of a period. -EINVAL: less than the kernel takes, not below the present limit, or not below all
 * the processors. */
int cpu_quota_choose(const struct cpu_quota *q, uint64_t *ret_us, struct err **err);
