/* What faults with a detour have in common around it: its place among others, its record in the
 * journal, what must be gone after it, and whether this node can make one. */
#pragma once

#include "core/err.h"
#include "fault/fault.h"
#include "fault/net_shape_detour.h"
#include "fault/net_target.h"

const char *detour_mechanism(enum net_hook hook);
/* net_position_take(), but past what an agent that was killed has left. */
int detour_position_take(enum net_hook hook, const struct net_target *target, uint32_t *ret,
	struct err **err);
int detour_record(const struct fault *f, const struct net_target *target, const struct detour *d,
	cJSON **ret, struct err **err);
/* fault_driver.verify_clean() and .probe() of such a fault; .revert() is net_filters_revert(). */
int detour_verify_clean(const struct undo *u, struct err **err);
int detour_probe(const struct node *node, struct support *ret, struct err **err);
