/* The control group through which a fault reaches an instance, in the hierarchy that has a controller. */
#pragma once

#include <stdbool.h>
#include "core/err.h"
#include "core/wire.h"
#include "fault/fault.h"

struct group_target {
	bool v2;
	char *path;	/* below the hierarchy's root */
	char *folder;
};
void group_target_done(struct group_target *g);

/*
 * v2 where the group has the file v2_file ("cpu.max"), else the v1 hierarchy of the controller where
 * the group has v1_file. -EOPNOTSUPP, saying what is missing, where neither is there; -EPERM where the
 * group is not the instance's own (proc_choose_group()); -ESTALE when the instance is gone.
 */
int group_target_find(const struct instance_info *i, const char *controller, const char *v2_file,
	const char *v1_file, struct group_target *ret, struct err **err);

/* Can this node's groups have one of the files? Makes a group, looks, removes it. *ret: static text of
 * which it is ("cgroup v2", "cgroup v1"). */
int group_controller_probe(const char *controller, const char *v2_file, const char *v1_file,
	const char **ret, struct err **err);

/* A driver's target_is_gone: is nothing left in the instance's group (v2, or what stands for it) but
 * workers of the agent's own? */
bool group_target_is_gone(const struct fault *f);
