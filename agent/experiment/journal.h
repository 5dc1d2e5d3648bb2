/*
 * The journal: one file a fault, ID.json, written and fsynced before the fault (core/durable.h),
 * removed after it was verified clean. At start the agent reverts whatever it finds and resumes
 * nothing. A file that is no valid entry is kept aside as ID.json.bad, told about, and makes the
 * node refuse new faults until an operator ran `revert-all --discard-bad`: it may be a fault's only trace.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "fault/fault.h"

struct journal;

struct journal_entry {
	char *experiment, *run, *fault, *instance;
	struct proc_ref {
		pid_t pid;
		uint64_t start_ticks;
	} postmaster;
	char *boot_id;			/* an entry of an earlier boot has nothing left to revert */
	uint64_t written_realtime_ns;
	cJSON *undo;
};
void journal_entry_free(struct journal_entry *e);
DEFINE_CLEANUP(struct journal_entry, journal_entry_free)

/* Creates the folder (0700), takes its lock (fcntl(2), so once a process): a second agent gets
 * -EBUSY with the first one's pid. -EPERM: somebody else could write there. Removes what a write that never ended left. */
int journal_open(const char *path, struct journal **ret, struct err **err);
void journal_close(struct journal *j);
/* Its folder, open; borrowed. */
int journal_folder(const struct journal *j);
int journal_write(struct journal *j, const struct journal_entry *e, struct err **err);
int journal_remove(struct journal *j, const char *experiment, struct err **err);
/* Every entry; broken files are set aside, and the names of all that were ever set aside are in
 * *ret_bad (NULL-terminated, NULL when there is none). Caller frees all. */
int journal_read_all(struct journal *j, struct journal_entry ***ret, size_t *ret_count,
	char ***ret_bad, struct err **err);
/* Keeps an entry aside as ID.json.bad: its fault is unknown, or its record cannot be understood. */
int journal_set_aside(struct journal *j, const char *experiment, struct err **err);
int journal_discard_bad(struct journal *j, size_t *ret_count, struct err **err);
