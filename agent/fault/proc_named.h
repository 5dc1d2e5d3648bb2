/* Processes of an instance by name: titles, the session's application and client; the manager. */
#pragma once

#include "core/param.h"
#include "core/wire.h"
#include "fault/proc_choice.h"

/*
 * Those that titles, application and client of params (PROC_NAMED_PARAMS) mean, all of them that are
 * set; the postmaster only by a title. None is no error. Fails where one that is set cannot be told on
 * this PostgreSQL or node. Caller frees.
 */
int proc_choose_named(const struct proc_id *postmaster, const struct instance_info *instance,
	const struct params *params, struct proc_choice **ret, size_t *ret_count, struct err **err);

/*
 * The manager's own processes (manager_process_name(), which is their kind): of the instance's
 * container (its pid namespace, unless that is the node's) or of its own cgroup (proc_choose_group()),
 * and of the postmaster's ancestors. The first process of a container is left out where there is
 * another: it only waits for that. -ENOENT with what is there instead. Caller frees.
 */
int proc_choose_manager(const struct proc_id *postmaster, const struct instance_info *instance,
	struct proc_choice **ret, size_t *ret_count, struct err **err);
