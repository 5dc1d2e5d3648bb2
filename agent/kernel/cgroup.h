/*
 * Control groups, v2, v1 and hybrid (cgroups(7), Documentation/admin-guide/cgroup-v2.rst). A path is
 * that of the group below its hierarchy's root ("/kubepods/.../ID"); mount points come from
 * /proc/self/mountinfo.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"
#include "kernel/proc.h"

/* Into PID 1's cgroup namespace, so that /proc/PID/cgroup shows whole paths to an agent in a container that
 * sees the node's processes. 1: done, 0: we are there already. */
int cgroup_enter_node(struct err **err);

/* Path of the v2 group of a process (or of the v1 freezer/systemd one where there is no v2). */
int cgroup_of(pid_t pid, char **ret, struct err **err);
/* Its path in the v1 hierarchy of a controller ("cpu", "blkio"), or in v2 for NULL; mounted or not. */
int cgroup_of_controller(pid_t pid, const char *controller, char **ret, struct err **err);
/* The folder of a group, in the mounted v1 hierarchy of a controller or in v2 (NULL), there or not.
 * -EOPNOTSUPP where that is not mounted or does not show the group. Caller frees. */
int cgroup_folder(const char *controller, const char *path, char **ret, struct err **err);
/* Processes below such a folder, caller frees. */
int cgroup_folder_processes(const char *folder, struct proc_id **ret, size_t *ret_count,
	struct err **err);
/* Processes of the group and of those below it, caller frees. */
int cgroup_processes(const char *path, struct proc_id **ret, size_t *ret_count, struct err **err);

/* The file that freezes this group: v2 cgroup.freeze, else v1 freezer.state; -EOPNOTSUPP. */
int cgroup_freezer(const char *path, char **ret_file, struct err **err);
/* Writes and waits (bounded, 2 s) until cgroup.events / freezer.state says so. */
int cgroup_freeze(const char *file, bool freeze, struct err **err);
/* A group that is gone is not frozen. */
int cgroup_is_frozen(const char *file, bool *ret, struct err **err);
