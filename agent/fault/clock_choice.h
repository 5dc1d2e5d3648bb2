/* The processes of an instance whose clocks clock-skew makes wrong. */
#pragma once

#include <stddef.h>
#include "core/err.h"
#include "core/wire.h"
#include "fault/proc_choice.h"
#include "kernel/proc.h"

/* In the order of the parameter's choices. */
enum clock_choice {
	CLOCK_CHOICE_POSTGRES,	/* the postmaster's tree */
	CLOCK_CHOICE_MANAGER,	/* what else is in the instance's own cgroup */
	CLOCK_CHOICE_ALL,	/* all of that cgroup */
};

/* -ESTALE: no postmaster any more, and for manager and all no cgroup either (-ENOENT). A cgroup that
 * is not the instance's own is refused (proc_choose_group()) for as long as the postmaster lives;
 * afterwards it is not asked again. Caller frees. */
int clock_choose(const struct proc_id *postmaster, const struct instance_info *instance,
	enum clock_choice which, struct proc_choice **ret, size_t *ret_count, struct err **err);
