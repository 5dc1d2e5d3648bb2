#include "core/catalogue.h"
#include "core/catalogue/disk_params.h"

static const char *const errno_choices[] = {
	"EIO", "ENOSPC", "EDQUOT", "EAGAIN", "EBUSY", "EROFS", NULL,
};

static const struct param_spec params[] = {
	{.name = "errno", .type = PARAM_ENUM, .fallback = "EIO", .choices = errno_choices,
		.help = "What the calls that are hit fail with. The file gate cannot give EROFS."},
	{.name = "after", .type = PARAM_COUNT, .max = 1000000000,
		.help = "So many matching calls succeed first."},
	DISK_PARAMS("read,write,fsync,fdatasync"),
};

static const struct fault_example examples[] = {
	{"disk-error --target lab/pg1 --for 10s --operations fdatasync --paths wal",
		"The WAL cannot be flushed: PostgreSQL panics and recovers, as it should."},
	{"disk-error --target lab/pg1 --for 30s --errno ENOSPC --operations write --paths temp",
		"No room for temporary files: large sorts fail, the rest works."},
	{"disk-error --target lab/pg2 --for 30s --operations read --paths data --percent 1%",
		"A disk with bad sectors."},
};

static int check(const struct params *p, struct err **err)
{
	if (params_number(p, "mechanism") == DISK_FILE_GATE && params_number(p, "errno") == 5)
		return err_set(err, -EINVAL, "errno: EROFS cannot be given by mechanism file");
	return disk_params_check(p, err);
}

const struct fault_spec fault_disk_error = {
	.name = "disk-error",
	.summary = "Make an instance's reads, writes and flushes fail",
	.description =
		"Each call that is hit fails with the errno asked for, as with a bad disk, a full "
		"one or one that was taken away. Only the instance's own calls on files below "
		"PGDATA fail; the volume itself is not touched, so what is on it stays whole. Only the "
		"postmaster and its descendants are hit, not a manager that reads by itself. A restart "
		"of the postmaster ends the fault: the one that follows it is not hit.\n\n"
		"PostgreSQL's answers differ, and are what a drill is after: a failed flush of "
		"the WAL, or of data files in a checkpoint, is a PANIC with crash recovery; a "
		"failed read of a table is an error of that statement.\n\n"
		"The file gate refuses a read or write before it begins. The syscall gate changes "
		"the result when the call has been done: data that a failed write or flush wrote "
		"is there nevertheless, which a program that takes the error seriously must not "
		"count on. Opens fail by the file gate alone. With mechanism auto each call is hit once, by one of the two. "
		"What goes by io_uring or by memory mapping passes the syscall gate; copy_file_range, "
		"syncfs, and calls that truncate, rename or remove files are none of the operations.",
	.mechanism =
		"File gate: fanotify events before reads and writes (FAN_PRE_ACCESS) and at opens "
		"(FAN_OPEN_PERM) on the instance's own "
		"mount, answered with FAN_DENY_ERRNO. Syscall gate: a BPF program on the raw tracepoint "
		"sys_exit picks the instance's calls and sends the thread SIGCONT, "
		"which stops it for the agent, its tracer (PTRACE_SEIZE, without system call "
		"stops), on its way out; the agent writes the error into the return register and "
		"drops the signal. Both are inert after the deadline.",
	.needs = DISK_NEEDS,
	.leaves =
		"Nothing. When the agent dies, killed with SIGKILL included, the kernel lets "
		"every call through at once. An agent that is itself stopped (SIGSTOP, a frozen "
		"cgroup) lets nothing go until it runs or dies.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.check = check,
};
