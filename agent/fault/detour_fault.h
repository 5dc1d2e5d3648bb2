/* What net-shape and dns are: a detour (fault/net_shape_detour.h) with a shape, for what some rules match. */
#pragma once

#include "fault/fault.h"
#include "fault/net_rules.h"
#include "fault/net_shape_detour.h"
#include "fault/net_target.h"
#include "hold/delay_line.h"

/* What a driver's state begins with; calloc() made it, and target.netns_fd is -1. */
struct detour_fault {
	struct net_target target;
	struct net_rules rules;
	struct delay_shape shape;
	uint32_t position;
	struct detour *detour;
};

struct detour_sides {
	bool in, out;
	const struct delay_filter *filter;	/* as in struct detour_plan */
};

/* With the whole state. Takes NULL. */
void detour_fault_free(struct detour_fault *s);
/* With rules and shape given. Sets what arm() sets in f but its state, which stays the caller's. */
int detour_fault_arm(struct detour_fault *s, struct fault *f, const struct detour_sides *sides,
	struct undo *ret, struct err **err);

/* The rest of a driver. */
int detour_fault_place(struct fault *f, struct undo *u, struct err **err);
int detour_fault_fire(struct fault *f, struct err **err);
void detour_fault_release(struct fault *f);
/* A TAP's descriptor keeps the namespace that it was opened in (drivers/net/tun.c: its socket counts as a
 * user), and with it a deleted pod's interfaces, until release(). So this must not be left out. */
bool detour_fault_target_is_gone(const struct fault *f);
#define DETOUR_FAULT_OPERATIONS                                                                 \
	.probe = detour_probe, .place = detour_fault_place, .fire = detour_fault_fire,          \
	.release = detour_fault_release, .revert = net_filters_revert,                          \
	.verify_clean = detour_verify_clean, .target_is_gone = detour_fault_target_is_gone
