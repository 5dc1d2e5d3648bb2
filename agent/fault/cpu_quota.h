/* The quota that cpu-throttle sets: one that holds the instance back, and never loosens what is there. */
#pragma once

#include <stdint.h>
#include "core/err.h"

struct cpu_quota {
	uint64_t now_us;	/* of a period at present; UINT64_MAX: no limit */
	uint64_t period_us;
	uint64_t ppm;		/* asked: of one processor */
	uint64_t processors;	/* of the node */
	const char *group;	/* for words */
};

/* *ret_us: of a period. -EINVAL: less than the kernel takes, not below the present limit, or not below all
 * the processors. */
int cpu_quota_choose(const struct cpu_quota *q, uint64_t *ret_us, struct err **err);
