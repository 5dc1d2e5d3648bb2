#include "core/catalogue.h"

static const struct param_spec params[] = {
	{.name = "quota", .type = PARAM_PERCENT, .fallback = "10%", .min = 10000, .max = 100000000,
		.help = "So much of one processor for the whole instance, its manager included: 250% is "
			"two and a half processors."},
};

static const struct fault_example examples[] = {
	{"cpu-throttle --target lab/pg1 --for 60s --quota 5%",
		"Starve an instance and its manager of processor time."},
	{"cpu-throttle --target lab/pg2 --for 5m --quota 50%",
		"Give a replica half a processor: does it keep up?"},
	{"cpu-throttle --target lab/pg1 --for 20s --quota 1%",
		"As little as the kernel allows: nearly a standstill, but not quite."},
	{"cpu-throttle --target lab/pg1 --for 5m --quota 150%",
		"A processor and a half for an instance that is used to more."},
};

const struct fault_spec fault_cpu_throttle = {
	.name = "cpu-throttle",
	.summary = "Limit the processor time of an instance",
	.description =
		"Sets the CFS quota of the instance's cgroup: when its processes have used up their "
		"share of a period, all of them stand still until the next one. A container with a "
		"CPU limit that is too low looks like that: everything works, in jerks.\n\n"
		"A quota that is above the limit that is there already is refused, as it would loosen "
		"that; above that of a cgroup that holds the instance's, or not below all the processors "
		"that the instance may use (the node's, or its cpuset's), too, as it would limit nothing. The "
		"evidence counts the periods in which the instance was held back, and for how long.",
	.mechanism =
		"cpu.max of the instance's cgroup (v2), or cpu.cfs_quota_us where the cpu controller "
		"is in v1; the period stays as it is.",
	.needs =
		"CONFIG_CFS_BANDWIDTH, the cpu controller in the instance's cgroup, and a cgroup that is "
		"the instance's own; the root cgroup is refused.",
	.leaves =
		"The quota stays until an agent starts again and writes back what its journal names, "
		"or \"pgjolt-agent revert-all\" does.",
	.lifetime = LIFETIME_JOURNALED,
	CATALOGUE_LISTS,
};
