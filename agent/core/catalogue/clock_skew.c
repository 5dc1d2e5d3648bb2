#include "core/catalogue.h"

#define MS   1000000ULL
#define HOUR 3600000000000ULL

/* The first of the choices below. */
enum { DIRECTION_FORWARD = 0, CLOCKS_REALTIME = 0 };

static const char *const direction_choices[] = {"forward", "back", NULL};
static const char *const clocks_choices[] = {"realtime", "monotonic", "both", NULL};
static const char *const processes_choices[] = {"postgres", "manager", "all", NULL};
static const char *const mechanism_choices[] = {"detour", "stub", NULL};

static const struct param_spec params[] = {
	{.name = "offset", .type = PARAM_DURATION, .max = 87600 * HOUR,
		.help = "How far the clock jumps."},
	{.name = "drift", .type = PARAM_COUNT, .max = 900000,
		.help = "How fast it then goes wrong, in ppm: microseconds a second. With an offset "
			"both apply."},
	{.name = "direction", .type = PARAM_ENUM, .fallback = "forward",
		.choices = direction_choices,
		.help = "forward: the clock is ahead, or too fast. back: behind, or too slow."},
	{.name = "strobe", .type = PARAM_DURATION, .min = 10 * MS, .max = HOUR,
		.help = "The clock is wrong for so long, right for so long, and so on."},
	{.name = "after", .type = PARAM_DURATION, .fallback = "0", .max = 24 * HOUR,
		.help = "The clock is right for so long after the fault was fired; then it jumps, in "
			"all processes at the same instant."},
	{.name = "clocks", .type = PARAM_ENUM, .fallback = "realtime",
		.choices = clocks_choices,
		.help = "realtime: the time of day (clock_gettime, gettimeofday, time). monotonic: the "
			"clocks that count the uptime, by which programs time waits and leases."},
	{.name = "processes", .type = PARAM_ENUM, .fallback = "postgres",
		.choices = processes_choices,
		.help = "postgres: the postmaster and its children. manager: what else is in the "
			"instance's cgroup. all: every process in it."},
	{.name = "mechanism", .type = PARAM_ENUM, .fallback = "detour",
		.choices = mechanism_choices,
		.help = "detour: clocks are read as fast as before; where this kernel's code does not "
			"allow it, a stub is used and the evidence says so. stub: each reading is a "
			"system call."},
};

static const struct fault_example examples[] = {
	{"clock-skew --target lab/pg1 --for 60s --offset 1h",
		"PostgreSQL's clock jumps an hour ahead, and back at the end."},
	{"clock-skew --target lab/pg1 --for 60s --offset 1h --direction back --processes all",
		"The clock of the instance and its manager is an hour behind."},
	{"clock-skew --target lab/pg2 --for 5m --drift 5000 --processes all",
		"A clock that runs fast by 5 ms a second: 1.5 s after five minutes."},
	{"clock-skew --target lab/pg1 --for 60s --offset 40s --processes manager --clocks both",
		"Only the manager's clocks jump, further than its lease is long."},
	{"clock-skew --target lab/pg1 --for 60s --offset 90s --strobe 5s",
		"A clock that two sources fight over: right and wrong, five seconds each."},
	{"clock-skew --target lab/pg1 --for 60s --offset 2m --after 20s",
		"The jump comes 20 s after the fault was fired."},
};

static int check(const struct params *p, struct err **err)
{
	uint64_t offset = params_number(p, "offset");
	bool forward = params_number(p, "direction") == DIRECTION_FORWARD;
	bool uptime = params_number(p, "clocks") != CLOCKS_REALTIME;
	char given[UNITS_TEXT_MAX], most[UNITS_TEXT_MAX];

	if (forward && uptime && offset > CLOCK_WAITS_LONGER_MAX_NS)
		return err_set(err, -EINVAL,
			"offset: %s forward for monotonic clocks (allowed: up to %s): waits may last longer by "
			"it, also after the fault's end", duration_format(offset, given),
			duration_format(CLOCK_WAITS_LONGER_MAX_NS, most));
	if (params_number(p, "offset") == 0 && params_number(p, "drift") == 0)
		return err_set(err, -EINVAL,
			"offset: an offset, a drift or both are required");
	return 0;
}

const struct fault_spec fault_clock_skew = {
	.name = "clock-skew",
	.summary = "Make an instance's clocks wrong: a jump, a drift, or both",
	.description =
		"The chosen processes read a clock that is ahead or behind, or too fast or too slow; "
		"the node and every other process keep the right time. clock_gettime(), "
		"gettimeofday() and time() agree with one another. Sessions and programs that start "
		"later are skewed too: children by inheritance, others within a quarter of a second; "
		"at the end all get their own clock back, whenever they were born. With processes "
		"postgres a restart of the postmaster ends the fault: the one that follows it has "
		"the right time.\n\n"
		"What the kernel itself does by its clocks stays right: timeouts of system calls, "
		"times of files, packets, and of programs that ask by a bare system call. So "
		"do the clocks of 32-bit programs; the evidence names what could not be skewed, "
		"and why. The monotonic clocks of a process in a time namespace of its own are "
		"left alone.\n\n"
		"A wait until a point in time ends by the kernel's clock: in a program whose clock is "
		"ahead it takes longer by as much, also after the fault's end. So monotonic "
		"forward brings programs with threads to a standstill: Python's wait so for one "
		"another, and go on only when that wait is over. The evidence says by how much waits "
		"may last longer (waits_longer_ms); monotonic forward is refused above 10 minutes, "
		"what drift adds until the fault's end included. Behind, such waits end too early.\n\n"
		"For the skew to be put on and taken off, the processes stand still for some "
		"milliseconds. Meanwhile nobody else may trace them: a debugger, or another fault that "
		"does (proc-freeze), is named in the refusal.",
	.mechanism =
		"Each process has the kernel's vDSO mapped, through which it reads clocks. While the "
		"processes are held by ptrace and no thread is at such a place, each one's private copy is "
		"patched through /proc/PID/mem: a detour that lets the function's own code read the "
		"clock and then adds the skew. That makes a reading about 1 ns longer (20 before; with "
		"drift or strobe up to 5 ns longer), where libfaketime adds 30 ns and a system call "
		"140; time() takes 3 ns longer. The patch compares the clock "
		"that it has read with its own start and end, so it goes inert by itself; a node "
		"clock that is set back meanwhile cannot make it last more than twice as long. stub: "
		"a system call in place of the function's code, with the same skew.",
	.needs =
		"An x86-64 machine whose kernel gives processes a vDSO (not vdso=0) and lets root "
		"write into it (CONFIG_PROC_MEM_ALWAYS_FORCE, which is the default from Linux 6.12 on; "
		"earlier kernels always do), and CAP_SYS_PTRACE. processes manager and all: a cgroup "
		"that is the instance's own.",
	.leaves =
		"The skew ends by itself when the fault's time is over, even if no agent is there. "
		"Until an agent starts again and reverts what its journal names, the processes keep "
		"some hundred bytes of code that then does nothing but read the right time. A "
		"process stopped for patching runs on at once.",
	.lifetime = LIFETIME_EXPIRING,
	CATALOGUE_LISTS,
	.check = check,
};
