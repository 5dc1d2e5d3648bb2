#include "core/catalogue.h"

static const struct param_spec params[] = {
	{.name = "workers", .type = PARAM_COUNT, .fallback = "2", .min = 1, .max = 64,
		.help = "Processes that compute."},
	{.name = "load", .type = PARAM_PERCENT, .fallback = "100%", .min = 10000, .max = 1000000,
		.help = "Of one processor, for each of them."},
};

static const struct fault_example examples[] = {
	{"cpu-stress --target lab/pg1 --for 60s --workers 4",
		"Four busy processes beside PostgreSQL and its manager."},
	{"cpu-stress --target lab/pg2 --for 5m --workers 2 --load 50%",
		"Half a processor each for two: a replica with a noisy neighbour."},
	{"cpu-stress --target lab/pg1 --for 30s --workers 32",
		"Many more than there are processors: every process waits for its turn."},
};

const struct fault_spec fault_cpu_stress = {
	.name = "cpu-stress",
	.summary = "Use up the processor time of an instance",
	.description =
		"Busy processes in the instance's cgroup: they share its limit and its weight with "
		"PostgreSQL and its manager, as a runaway query or a backup's compression would. "
		"Without a limit they also take from everybody else on the node, as far as the "
		"kernel's scheduler lets them.\n\n"
		"The evidence has the processor time that they got, and how many processors that is.",
	.mechanism =
		"Worker processes forked from the agent into every cgroup of the instance (v2 and v1), "
		"with PR_SET_PDEATHSIG; they run no program of their own.",
	.needs =
		"A cgroup that is the instance's own; the root cgroup is refused.",
	.leaves =
		"Nothing: the kernel kills the workers when the agent dies.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
};
