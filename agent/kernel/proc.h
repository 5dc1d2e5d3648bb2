/* Processes by /proc (proc(5)), pidfds (pidfd_open(2), pidfd_send_signal(2)). A process is named by
 * pid and start time; a reused pid is -ESRCH. All text from /proc is untrusted. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"

struct proc_id {
	pid_t pid;
	uint64_t start_ticks;	/* field 22 of /proc/PID/stat */
};

struct proc_stat {
	struct proc_id id;
	pid_t ppid;
	char state;		/* R S D Z T t X */
	char comm[64];		/* as /proc has it: any byte but NUL */
};

/* -ESRCH when it is gone. */
int proc_read_stat(pid_t pid, struct proc_stat *ret, struct err **err);
/* Fills start_ticks for a pid. */
int proc_identify(pid_t pid, struct proc_id *ret, struct err **err);
/* Is it still this very process, and not a zombie? */
bool proc_is_alive(const struct proc_id *id);
/* The command line with NULs as spaces, trailing ones cut: PostgreSQL's title. Caller frees. */
int proc_title(pid_t pid, char **ret, struct err **err);
/* pidfd of this very process: opened, then the identity checked again. */
int proc_pidfd(const struct proc_id *id, int *ret_fd, struct err **err);
/* Through a pidfd, never a bare pid. -ESRCH when it is gone. */
int proc_signal(const struct proc_id *id, int signal, struct err **err);
/* Ids of every process of the node: far cheaper than proc_list(). Caller frees. */
int proc_pids(pid_t **ret, size_t *ret_count, struct err **err);
/* Every process of the node, caller frees. */
int proc_list(struct proc_stat **ret, size_t *ret_count, struct err **err);
/* root and all its descendants, root first; caller frees. */
int proc_tree(pid_t root, struct proc_id **ret, size_t *ret_count, struct err **err);
/* Threads of a process, caller frees. */
int proc_threads(pid_t pid, pid_t **ret, size_t *ret_count, struct err **err);

/* Inodes of the sockets among its open files (sock_diag_list() has them too); a process that is gone
 * has none. Caller frees. */
int proc_sockets(pid_t pid, uint32_t **ret, size_t *ret_count, struct err **err);

/* /proc/PID/NAME, at most max bytes of it (the rest is left out), NUL-terminated; may hold NULs.
 * -ESRCH when the process is gone. Caller frees. */
int proc_read_file(pid_t pid, const char *name, size_t max, char **ret, size_t *ret_length,
	struct err **err);
/* A symbolic link of /proc/PID ("exe", "cwd", "root"), caller frees. */
int proc_read_link(pid_t pid, const char *name, char **ret, struct err **err);
/* Value of a "Name:" line of /proc/PID/status without blanks around it, caller frees. -ENODATA. */
int proc_status_field(pid_t pid, const char *name, char **ret, struct err **err);
/* Who traces this process or thread: a thread id, 0 for nobody. */
int proc_tracer(pid_t pid, pid_t *ret, struct err **err);
/* The inode of a namespace ("net", "pid", "mnt", "uts"): its identity. */
int proc_namespace(pid_t pid, const char *name, uint64_t *ret, struct err **err);
/* Is a capability (the first 32 of capabilities(7)) in our own effective set? */
bool proc_has_capability(unsigned capability);
