#include "core/catalogue.h"
#include "core/catalogue/disk_params.h"

#define S 1000000000ULL

static const char *const distribution_choices[] = {"uniform", "normal", "pareto", NULL};

static const struct param_spec params[] = {
	{.name = "delay", .type = PARAM_DURATION, .required = true, .min = 1000, .max = 600 * S,
		.help = "Time that each call that is hit takes longer."},
	{.name = "jitter", .type = PARAM_DURATION, .max = 600 * S,
		.help = "How far the delay varies to both sides; at most the delay."},
	{.name = "distribution", .type = PARAM_ENUM, .fallback = "uniform",
		.choices = distribution_choices,
		.help = "Of the jitter: uniform over delay +- jitter, normal with jitter as "
			"standard deviation, or pareto (shape 3, standard deviation jitter) with its "
			"long tail of slow calls."},
	DISK_PARAMS("read,write,fsync,fdatasync"),
};

static const struct fault_example examples[] = {
	{"disk-latency --target lab/pg1 --for 1m --delay 20ms",
		"A slow volume: every read, write and flush takes 20 ms longer."},
	{"disk-latency --target lab/pg1 --for 30s --delay 5s --operations fsync,fdatasync --paths wal",
		"A stalled WAL volume: commits wait 5 s."},
	{"disk-latency --target lab/pg2 --for 1m --delay 10ms --jitter 5ms --operations read --percent 10%",
		"One read in ten is slow."},
	{"disk-latency --target lab/pg1 --for 1m --delay 100ms --titles checkpointer",
		"A slow checkpointer while the sessions' own calls are quick."},
};

static int check(const struct params *p, struct err **err)
{
	uint64_t delay = params_number(p, "delay"), jitter = params_number(p, "jitter");
	char a[UNITS_TEXT_MAX], b[UNITS_TEXT_MAX];

	if (jitter > delay)
		return err_set(err, -EINVAL, "jitter: %s is above the delay of %s",
			duration_format(jitter, a), duration_format(delay, b));
	if (!jitter && params_number(p, "distribution") != 0)
		return err_set(err, -EINVAL, "distribution: needs jitter");
	return disk_params_check(p, err);
}

const struct fault_spec fault_disk_latency = {
	.name = "disk-latency",
	.summary = "Make an instance's reads, writes and flushes slow",
	.description =
		"Each call that is hit takes longer by the delay: reads and writes of files below "
		"PGDATA, fsync, fdatasync, open. Other programs on the volume, other instances "
		"and the node are not touched, and nothing is put between PostgreSQL and its "
		"files: the volume stays mounted as it is. Sessions that begin while the fault "
		"is active are hit too. Only the postmaster and its descendants are hit: a manager "
		"that reads the data directory by itself finds it quick. A restart of the postmaster "
		"ends the fault: the one that follows it is not hit.\n\n"
		"Two gates do it. The file gate holds a read or write before it begins; the kernel "
		"shows it only files that were opened after it was set. The syscall gate holds a "
		"call on its way out, whatever file it is on. With mechanism auto each access is "
		"hit once, by one of the two.\n\n"
		"What goes by io_uring or by memory mapping passes the syscall gate; copy_file_range, "
		"syncfs, and calls that truncate, rename or remove files are none of the operations. The evidence "
		"counts the calls by operation and kind of file, and how far the delay really "
		"given was from the one asked for.",
	.mechanism =
		"File gate: fanotify events before reads and writes (FAN_PRE_ACCESS) and at opens "
		"(FAN_OPEN_PERM) on the instance's own "
		"mount, answered when due. Syscall gate: a BPF program on the raw tracepoint "
		"sys_exit picks the instance's calls by process, file and chance and "
		"sends the thread SIGCONT, which stops it for the agent, its tracer "
		"(PTRACE_SEIZE, without system call stops), on its way out of the call; it goes "
		"on when due, with the signal dropped. Both are inert after the deadline.",
	.needs = DISK_NEEDS,
	.leaves =
		"Nothing. When the agent dies, killed with SIGKILL included, the kernel lets "
		"every held call go on at once. An agent that is itself stopped (SIGSTOP, a frozen "
		"cgroup) lets nothing go until it runs or dies.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.check = check,
};
