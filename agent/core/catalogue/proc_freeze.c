#include "core/catalogue.h"
#include "core/catalogue/proc_params.h"

static const char *const processes_choices[] = {"instance", "postgres", "titles", "manager", NULL};
static const char *const mechanism_choices[] = {"ptrace", "cgroup", NULL};

static const struct param_spec params[] = {
	{.name = "processes", .type = PARAM_ENUM, .fallback = "instance",
		.choices = processes_choices,
		.help = "instance: every process in the instance's cgroup, its manager included. "
			"postgres: the postmaster and its children. titles: those of them that "
			"titles, application and client mean. manager: what manages the "
			"instance, and not PostgreSQL (Patroni, CloudNativePG's instance "
			"manager, pg_autoctl, repmgrd, stolon-keeper)."},
	PROC_NAMED_PARAMS("processes titles"),
	{.name = "percent", .type = PARAM_PERCENT, .min = 1, .max = 1000000,
		.help = "With processes titles: the share of those that match when it is armed, "
			"at random, at least one; without percent and count all, and those that "
			"come later too."},
	{.name = "count", .type = PARAM_COUNT, .min = 1, .max = 100000,
		.help = "With processes titles: at most so many of those that match when it is "
			"armed, at random."},
	{.name = "mechanism", .type = PARAM_ENUM, .fallback = "ptrace",
		.choices = mechanism_choices,
		.help = "ptrace: held, so the agent's death lets all run. cgroup: the whole cgroup "
			"at one moment, new processes too, but journaled: it stays frozen until an "
			"agent reverts it."},
};

static const struct fault_example examples[] = {
	{"proc-freeze --target lab/pg1 --for 30s",
		"Freeze an instance with its manager, as a stalled virtual machine is."},
	{"proc-freeze --target lab/pg1 --for 30s --processes postgres",
		"Freeze PostgreSQL only: its manager runs on and has to notice."},
	{"proc-freeze --target lab/pg2 --for 20s --processes titles --titles walreceiver",
		"A replica that stops receiving without losing its connection."},
	{"proc-freeze --target lab/pg1 --for 20s --processes titles --titles checkpointer,walwriter",
		"Stop the writers in the background."},
	{"proc-freeze --target lab/pg1 --for 45s --processes manager",
		"Freeze the manager alone, for longer than its lock lasts."},
	{"proc-freeze --target lab/pg1 --for 20s --processes titles --application billing --percent 50%",
		"Freeze half of an application's sessions, with the locks that they hold."},
	{"proc-freeze --target lab/pg1 --for 30s --mechanism cgroup",
		"Freeze the cgroup, as docker pause does."},
};

static int check(const struct params *p, struct err **err)
{
	bool titles = params_number(p, "processes") == 2;

	if (params_number(p, "mechanism") == 1 && params_number(p, "processes") != 0)
		return err_set(err, -EINVAL,
			"mechanism: cgroup freezes the whole cgroup, so it needs processes instance");
	if (proc_params_check(p, titles, "processes titles", err) < 0)
		return -EINVAL;
	if (!titles && (params_is_set(p, "percent") || params_is_set(p, "count")))
		return err_set(err, -EINVAL, "percent, count: need processes titles");
	return 0;
}

const struct fault_spec fault_proc_freeze = {
	.name = "proc-freeze",
	.summary = "Freeze an instance, PostgreSQL or chosen processes of it",
	.description =
		"Stops processes where they are: they keep memory, locks, sockets and files and "
		"do nothing, until the end lets them go on as if no time had passed. Kernel "
		"work goes on: TCP acknowledges what it receives until the buffers are full, so "
		"peers see a silent connection and not a broken one.\n\n"
		"A frozen primary that comes back is the classic test of fencing: for a moment it "
		"believes that it still leads.\n\n"
		"Freezing the instance freezes its manager, where they share a cgroup; "
		"processes postgres leaves the manager running. An instance's cgroup must be its "
		"own: a container's, a systemd service's, or one with nothing else in it; for a "
		"server that shares its cgroup, name processes postgres. Sessions and programs "
		"that come meanwhile are stopped within a fifth of a second. The evidence counts "
		"the processes that stand still, and names a thread that waits uninterruptibly in "
		"the kernel and so stops only on its way out.\n\n"
		"Processes manager freezes the manager and leaves PostgreSQL to its clients: a "
		"primary that goes on taking writes after its lock has run out is what only a "
		"watchdog or fencing prevents. How a manager and a session's application and "
		"client are known is told with proc-kill. Children that are born meanwhile to "
		"what was chosen by name, or to a manager, are not frozen along.\n\n"
		"From arming on the processes are traced: each signal, fork and exit costs them a "
		"stop of some microseconds, and a debugger cannot attach.",
	.mechanism =
		"ptrace (default): PTRACE_SEIZE and PTRACE_INTERRUPT of every thread, with "
		"PTRACE_O_TRACEFORK and PTRACE_O_TRACECLONE so that what is born meanwhile stops "
		"too. cgroup: cgroup.freeze of the instance's cgroup (v2), or freezer.state of "
		"the v1 freezer where there is no v2; at one moment for all its processes.",
	.needs =
		"ptrace: CAP_SYS_PTRACE, and that nobody else (a debugger, strace) traces the "
		"processes. cgroup: Linux 5.2 for cgroup.freeze or a v1 freezer hierarchy, and a "
		"cgroup that is the instance's own; the root cgroup is refused.",
	.leaves =
		"ptrace: nothing; when the agent dies, killed with SIGKILL included, the kernel "
		"lets all processes run at once. cgroup: the cgroup stays frozen until an agent "
		"starts again and reverts what its journal names, or \"pgjolt-agent revert-all\" does.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.check = check,
	.peers_param = "client",
};
