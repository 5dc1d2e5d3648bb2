#include "core/catalogue.h"
#include "core/catalogue/proc_params.h"

static const char *const process_choices[] = {"postmaster", "all", "title", "manager", NULL};

static const struct param_spec params[] = {
	{.name = "process", .type = PARAM_ENUM, .fallback = "postmaster",
		.choices = process_choices,
		.help = "postmaster: it alone. all: it and all its children. title: those of "
			"them that titles, application and client mean. manager: what manages "
			"the instance, and not PostgreSQL (Patroni, CloudNativePG's instance "
			"manager, pg_autoctl, repmgrd, stolon-keeper)."},
	PROC_NAMED_PARAMS("process title"),
	{.name = "signal", .type = PARAM_SIGNAL, .fallback = "KILL", .min = 1, .max = 64,
		.help = "KILL cannot be caught and makes PostgreSQL recover from a crash; to a "
			"postmaster QUIT, INT and TERM are immediate, fast and smart shutdown; "
			"STOP is refused (proc-freeze is for that)."},
	{.name = "every", .type = PARAM_DURATION, .min = 10000000, .max = 3600000000000,
		.help = "Again and again at this interval while the fault is active, among the "
			"processes that are there then; without it, once."},
	{.name = "percent", .type = PARAM_PERCENT, .fallback = "100%", .min = 1, .max = 1000000,
		.help = "The share of the matching processes, at random, rounded up so that at "
			"least one is hit."},
	{.name = "count", .type = PARAM_COUNT, .min = 1, .max = 100000,
		.help = "At most so many of the matching processes, at random."},
};

static const struct fault_example examples[] = {
	{"proc-kill --target lab/pg1 --for 10s", "Kill a postmaster, as the OOM killer would."},
	{"proc-kill --target lab/pg1 --for 10s --process all",
		"Kill everything of an instance at one blow, as a power cut would."},
	{"proc-kill --target lab/pg1 --for 30s --process title --titles walsender --signal TERM "
	 "--every 2s",
		"Break every replication connection, again each two seconds."},
	{"proc-kill --target lab/pg1 --for 10s --process title --titles backend --percent 25% "
	 "--signal TERM",
		"End a quarter of the clients' sessions, as pg_terminate_backend() does."},
	{"proc-kill --target lab/pg1 --for 10s --process title --titles checkpointer",
		"Kill the checkpointer: the postmaster ends all sessions and recovers."},
	{"proc-kill --target lab/pg1 --for 10s --process title --application billing --count 1 "
	 "--signal TERM",
		"End one session of an application."},
	{"proc-kill --target lab/pg1 --for 20s --process title --titles walsender --client lab/pg2 "
	 "--every 1s --signal TERM",
		"Keep one replica from streaming."},
	{"proc-kill --target lab/pg1 --for 60s --process manager",
		"Kill the manager alone: PostgreSQL goes on without it."},
};

#define SIGNAL_STOP 19
#define SIGNAL_TSTP 20
#define SIGNAL_TTOU 22

static int check(const struct params *p, struct err **err)
{
	bool title = params_number(p, "process") == 2;
	uint64_t signal = params_number(p, "signal");

	if (proc_params_check(p, title, "process title", err) < 0)
		return -EINVAL;
	/* What they stop would stay so after the fault. */
	if (signal >= SIGNAL_STOP && signal <= SIGNAL_TTOU)
		return err_set(err, -EINVAL,
			"signal: stopping a process is what proc-freeze does, and undoes");
	return 0;
}

const struct fault_spec fault_proc_kill = {
	.name = "proc-kill",
	.summary = "Kill or signal an instance's processes, once or again and again",
	.description =
		"Sends a signal to the postmaster, to all of an instance's processes or to "
		"those that PostgreSQL's process titles name. The processes are found anew each "
		"time, just before the signal, and each is signalled through a descriptor of that "
		"very process, so a pid that was given to another in between is never hit.\n\n"
		"Once means once: the experiment then stays active until its time ends, with "
		"nothing left to do, so that the recovery falls into it. With every, a restarted "
		"postmaster is hit again: the fault follows the instance, not the pid.\n\n"
		"Titles need update_process_title, which is on by default, for what changes in "
		"them; the name at their start is always there. A session's application_name is "
		"read where the process has it, its client is told by its socket, so neither "
		"needs a role in the database; with a pooler both are the pooler's.\n\n"
		"The manager is known by its command line, among the processes of the "
		"instance's container or of its own cgroup, and among the postmaster's "
		"ancestors. Where none is known the fault is refused. A manager that is the "
		"first process of its container takes the container with it.\n\n"
		"The evidence counts signals sent and lists pid and kind of what was hit.",
	.mechanism =
		"pidfd_open(2), then the process's start time is checked again, then "
		"pidfd_send_signal(2). With process all, the processes are signalled the "
		"postmaster first, so that it starts no others. application: the string that the "
		"binary's exported variable application_name points to (process_vm_readv(2)). "
		"client: inet_diag in the instance's network namespace.",
	.needs = "Linux 5.3 for pidfds; CAP_KILL; application: CAP_SYS_PTRACE and a PostgreSQL of 64 "
		 "bits; client: CAP_SYS_ADMIN, to look into the namespace.",
	.leaves =
		"Nothing is held, and nothing can be undone: what was killed stays killed, and "
		"it is PostgreSQL, its manager or its container runtime that starts it again. A "
		"killed agent only stops repeating.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.check = check,
	.peers_param = "client",
};
