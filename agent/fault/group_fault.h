/* What cpu-throttle and disk-throttle are: settings of an instance's own control group, changed and written
 * back. */
#pragma once

#include "fault/fault.h"
#include "fault/group_setting.h"
#include "fault/group_target.h"

/* What a driver's state begins with; calloc() made it, and settings.lock_fd is -1. */
struct group_fault {
	struct group_target group;
	struct group_settings settings;
};

/* With the whole state. Takes NULL. */
void group_fault_free(struct group_fault *x);
/* By the files that the controller has in v2 and in v1. */
int group_fault_probe(const char *controller, const char *v2_file, const char *v1_file, struct support *ret);
/* The end of arm(), with the settings prepared: x is the fault's from here on. */
void group_fault_armed(struct group_fault *x, struct fault *f, struct undo *ret);
void group_fault_release(struct fault *f);

#define GROUP_FAULT_OPERATIONS                                                                  \
	.probe = probe, .arm = arm, .fire = fire, .observe = observe,                           \
	.release = group_fault_release, .revert = group_settings_revert,                        \
	.verify_clean = group_settings_verify, .target_is_gone = group_target_is_gone
