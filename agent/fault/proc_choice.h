/* The processes of an instance that a fault acts on. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "core/err.h"
#include "core/json.h"
#include "core/wire.h"
#include "kernel/proc.h"

struct proc_choice {
	struct proc_id id;
	const char *kind;	/* instance_process_kind(), static; "other" for none of PostgreSQL's */
};

/* The postmaster and all its descendants (a backend's archive command too), the postmaster first.
 * -ESTALE when it is gone, -EPERM when it is PID 1 as the agent sees it. Caller frees. */
int proc_choose_tree(const struct proc_id *postmaster, const char *cluster, struct proc_choice **ret,
	size_t *ret_count, struct err **err);

/* Those of the tree whose title matches (process_title_matches()); the postmaster itself only with
 * a pattern "postmaster". None is no error. */
int proc_choose_titles(const struct proc_id *postmaster, const char *cluster, char *const *titles,
	struct proc_choice **ret, size_t *ret_count, struct err **err);

/*
 * Every process of the instance's cgroup, which must be the instance's own (else -EPERM with the
 * reason): not the root, without the agent, without another postmaster, and
 *   - in a container (a pid namespace other than the node's) every process shares the postmaster's
 *     pid or mount namespace, or is an ancestor of the postmaster;
 *   - as a systemd service (NAME.service, not below user.slice) whatever is in it is the service's;
 *   - else there is nothing in it but the postmaster, its descendants and its ancestors.
 */
int proc_choose_group(const struct proc_id *postmaster, const char *cluster, const char *cgroup,
	struct proc_choice **ret, size_t *ret_count, struct err **err);

/* Workers of stress faults are the agent's children, in an instance's group on purpose. They are of no
 * concern to those who act on the instance's processes. */
bool proc_is_worker(const struct proc_stat *s);

/* The same check alone, for the folder of a group in any hierarchy (cgroup_folder()): cgroup is its
 * path there. */
int proc_check_group(const struct proc_id *postmaster, const char *cgroup, const char *folder,
	struct err **err);

/* [{"pid": 1, "kind": "walsender"}], at most max of them. Caller deletes. */
cJSON *proc_choices_to_json(const struct proc_choice *list, size_t count, size_t max);
