/* One postmaster looked at through /proc/PID. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "core/err.h"
#include "core/wire.h"
#include "kernel/proc.h"

/* A process whose binary is PostgreSQL's. */
struct candidate {
	struct proc_stat stat;
	bool is_postmaster;
};

/*
 * Fills everything but node and dcs (left NULL); the name may still be another's too. all: the
 * candidates of the same scan, where its children are. -ENOENT: it is no postmaster. -ESRCH: it went
 * away meanwhile.
 */
int instance_describe(const struct candidate *postmaster, const struct candidate *all, size_t count,
	struct instance_info **ret, struct err **err);

/* Does the lock file in its working directory name it? Cheap; false too when it went away. */
bool instance_is_postmaster(pid_t pid);
