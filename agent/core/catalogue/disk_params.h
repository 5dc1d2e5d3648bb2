/* The parameters that say which accesses a disk fault is about; fault/disk_match.h reads them. */
#pragma once

#include "core/catalogue.h"

/* Order is that of the words. */
enum disk_operation {
	DISK_READ,
	DISK_WRITE,
	DISK_FSYNC,
	DISK_FDATASYNC,
	DISK_OPEN,
	DISK_OPERATION_MAX,
};
DECLARE_STRING_TABLE(disk_operation, enum disk_operation);

enum disk_class { DISK_DATA, DISK_WAL, DISK_TEMP, DISK_TABLESPACE, DISK_CLASS_MAX };
DECLARE_STRING_TABLE(disk_class, enum disk_class);

enum disk_mechanism { DISK_AUTO, DISK_FILE_GATE, DISK_SYSCALL_GATE };
extern const char *const disk_mechanism_choices[];

/* Bits of the operations asked for; what is no operation is passed over (check() refuses it). */
unsigned disk_operations(const struct params *p);
/* Operations and paths; mechanism file with what it cannot do. */
int disk_params_check(const struct params *p, struct err **err);

#define DISK_PARAMS(default_operations)                                                         \
	{.name = "operations", .type = PARAM_TEXTS, .fallback = default_operations,             \
		.help = "Which calls: read, write (fallocate too, and with O_DSYNC, as "        \
			"wal_sync_method open_datasync has it, the flush in it), fsync "        \
			"(sync_file_range too), fdatasync, open."},                             \
	{.name = "paths", .type = PARAM_TEXTS,                                                  \
		.help = "Which files: data, wal, temp, tablespace, or a glob of the path below "\
			"PGDATA (base/16384/*). By default every file of the data directory, "  \
			"with pg_wal and the tablespaces wherever they are."},                  \
	{.name = "titles", .type = PARAM_TEXTS,                                                 \
		.help = "Only processes with these titles (checkpointer, walwriter, backend, "  \
			"postmaster, alice app, * idle in transaction), as proc-freeze takes "  \
			"them. By default every process of the instance."},                     \
	{.name = "percent", .type = PARAM_PERCENT, .fallback = "100%", .min = 1,                \
		.max = 1000000, .help = "The share of the matching calls that is hit."},        \
	{.name = "mechanism", .type = PARAM_ENUM, .fallback = "auto",                           \
		.choices = disk_mechanism_choices,                                              \
		.help = "auto: reads and writes of files that are opened from now on by the "   \
			"file gate where this node and the instance's mount have it, all else " \
			"by the syscall gate. file, syscall: that gate alone; file knows read, " \
			"write and open, and of files only those opened after firing; syscall " \
			"cannot fail an open."}

#define DISK_NEEDS                                                                              \
	"File gate: Linux 6.14 with CONFIG_FANOTIFY_ACCESS_PERMISSIONS, a file system "         \
	"that has it (ext4, XFS, Btrfs; not overlayfs or tmpfs), CAP_SYS_ADMIN, and a "         \
	"mount namespace that is the instance's own. Syscall gate: Linux 5.14 with "            \
	"CONFIG_FTRACE_SYSCALLS and BTF, x86-64, CAP_BPF, CAP_PERFMON and "                     \
	"CAP_SYS_PTRACE; nobody else (a debugger, strace, proc-freeze) may trace the "          \
	"processes."
