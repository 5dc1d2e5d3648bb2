/* What disk-latency and disk-error are: two effects of the same gates. */
#pragma once

#include "fault/fault.h"
#include "hold/gate.h"

int disk_fault_probe(const struct node *node, struct support *ret, struct err **err);
/* effect: without the share and `after`, which are parameters of both faults. */
int disk_fault_arm(struct fault *f, const struct gate_effect *effect, struct undo *ret,
	struct err **err);
int disk_fault_fire(struct fault *f, struct err **err);
int disk_fault_observe(const struct fault *f, struct evidence *ret, struct err **err);
void disk_fault_release(struct fault *f);
int disk_fault_revert(const struct undo *u, struct err **err);
int disk_fault_verify_clean(const struct undo *u, struct err **err);
bool disk_fault_target_is_gone(const struct fault *f);

#define DISK_FAULT_OPERATIONS                                                                   \
	.probe = disk_fault_probe, .arm = arm, .fire = disk_fault_fire,                         \
	.observe = disk_fault_observe, .release = disk_fault_release,                           \
	.revert = disk_fault_revert, .verify_clean = disk_fault_verify_clean,                   \
	.target_is_gone = disk_fault_target_is_gone
