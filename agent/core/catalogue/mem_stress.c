#include "core/catalogue.h"

static const struct param_spec params[] = {
	{.name = "bytes", .type = PARAM_BYTES, .min = 4096, .max = 1ULL << 50,
		.help = "How much to take; without oom no more than the memory limit."},
	{.name = "percent", .type = PARAM_PERCENT, .min = 1, .max = 1000000,
		.help = "How much to take, as a share of the instance's memory limit."},
	{.name = "rate", .type = PARAM_BYTES, .min = 4096,
		.help = "Bytes a second that it grows by; without it, as fast as it goes."},
	{.name = "oom", .type = PARAM_BOOL, .fallback = "false",
		.help = "false: stops growing before the limit, and if the kernel kills all the "
			"same, the worker is the victim. true: goes on until the kernel has killed a "
			"process of the instance, then gives all back."},
};

static const struct fault_example examples[] = {
	{"mem-stress --target lab/pg1 --for 60s --bytes 512MiB",
		"Take half a gigabyte from an instance."},
	{"mem-stress --target lab/pg1 --for 60s --percent 80% --rate 20MiB",
		"Grow slowly to 80 % of the limit: its page cache shrinks, reads hit the disk."},
	{"mem-stress --target lab/pg1 --for 30s --percent 100% --oom true",
		"Let the kernel kill one process of the instance for lack of memory."},
};

static int check(const struct params *p, struct err **err)
{
	if (params_is_set(p, "bytes") == params_is_set(p, "percent"))
		return err_set(err, -EINVAL, "bytes: one of bytes and percent is required");
	return 0;
}

const struct fault_spec fault_mem_stress = {
	.name = "mem-stress",
	.summary = "Use up the memory of an instance, up to an out-of-memory kill",
	.description =
		"A process in the instance's cgroup takes memory and keeps it in use. First the page "
		"cache of the instance goes, and reads need the disk; near the limit everything "
		"waits for the kernel to find pages.\n\n"
		"With oom the memory is that of a file in memory, which counts for the cgroup but for "
		"no process, so the kernel looks for its victim among the instance's own: "
		"the one with the most memory, be it the manager, the postmaster or a backend; or all "
		"of them where the cgroup says so (memory.oom.group). After the first kill the "
		"memory is given back.\n\n"
		"oom and percent need a memory limit on the instance's cgroup or above it. Without one, "
		"more than half of what the node has left is refused. With one the kernel ends it there: "
		"refused is what would fit below the limit and leave the node less than an eighth of "
		"what it has left, or less than 256 MiB. What other mem-stress on the node may still take "
		"counts as taken, and all is looked at again when it fires. The evidence has what is held, how many "
		"processes the kernel killed, and whether the worker lives.",
	.mechanism =
		"A worker process forked from the agent into every cgroup of the instance (v2 and "
		"v1), with PR_SET_PDEATHSIG and an oom_score_adj of 1000, or with oom -1000.",
	.needs =
		"The memory controller (CONFIG_MEMCG) in the instance's cgroup, and a cgroup that is "
		"the instance's own; the root cgroup is refused. CAP_SYS_RESOURCE for an oom_score_adj "
		"below the agent's; without it the worker, which is small, may be the victim.",
	.leaves =
		"Nothing: the kernel kills the worker when the agent dies, and its memory is free. What "
		"the kernel has killed for lack of memory stays so.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.check = check,
};
