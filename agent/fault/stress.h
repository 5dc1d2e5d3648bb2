/* What cpu-stress, mem-stress and disk-stress share: workers in an instance's groups, their record and
 * their evidence. */
#pragma once

#include "fault/fault.h"
#include "fault/group_target.h"
#include "hold/worker.h"

/* What a driver's state begins with. */
struct stress {
	void (*done)(struct stress *s);	/* of what the state has besides; NULL: nothing */
	struct group_target group;	/* that of the controller; path NULL where there is none */
	char *why_no_group;
	struct workers *workers;
	uint64_t fired_ns;		/* 0: not yet */
};
/* With the whole state, which calloc() made. Takes NULL. */
void stress_free(struct stress *s);
DEFINE_CLEANUP(struct stress, stress_free)

struct stress_controller {
	const char *name, *v2_file, *v1_file;
	bool required;		/* else it is done without where the node has none */
};

/* Checks the groups (all that are joined are the instance's own) and finds the controller's. *ret_folders:
 * what the workers join; caller strv_free()s. */
int stress_groups(struct stress *s, const struct instance_info *i, const struct stress_controller *c,
	char ***ret_folders, struct err **err);
/* Forks the workers into the groups; the record names them. node_point() "forking", "forked". */
int stress_start(struct stress *s, const struct fault *f, const struct worker_job *job, char **folders,
	struct undo *ret, struct err **err);
/* fault_driver.fire() and release(); node_point() "before-fire", "ended". */
int stress_fire(struct fault *f, struct err **err);
void stress_release(struct fault *f);
/* Can a worker be forked, and does it end with the thread that forked it? */
int stress_probe(struct support *ret, struct err **err);

/* Sums over the workers. */
struct stress_sum {
	uint64_t operations, bytes, errors, cpu_ns, flags;
	uint64_t elapsed_ns;
	size_t running;
};
/* Adds "workers", "running", and "ended" for those that did by themselves. */
void stress_observe(const struct stress *s, struct stress_sum *ret, cJSON *detail);

int stress_revert(const struct undo *u, struct err **err);
int stress_verify(const struct undo *u, struct err **err);

#define STRESS_OPERATIONS                                                                       \
	.probe = probe, .arm = arm, .fire = stress_fire, .observe = observe,                    \
	.release = stress_release, .revert = stress_revert, .verify_clean = stress_verify,      \
	.target_is_gone = group_target_is_gone
