/*
 * The detour of net-shape and dns: for each direction of each interface a TAP in the same namespace and the
 * programs of bpf/net_shape.bpf.c, with a delay line at the other end of the TAPs. Its effect lives
 * in descriptors: when they close, by us or by our death, frames go their straight way again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <net/if.h>
#include "bpf/net_shape.h"
#include "core/err.h"
#include "fault/fault.h"
#include "fault/net_attach.h"
#include "fault/net_rules.h"
#include "hold/delay_line.h"
#include "kernel/link.h"

struct net_shape;	/* skeleton */

/* What a detour is made of. */
struct detour_plan {
	const struct node *node;	/* for crash tests */
	const char *fault;		/* whose points they are */
	const char *experiment;
	enum net_hook hook;
	int netns_fd;
	const struct link_info *links;
	size_t n_links;
	bool in, out;
	uint32_t position;		/* net_position_take(); 1 where nothing else is attached */
	const struct net_rules *rules;
	const struct delay_shape *shape;
	/* NULL: the shape is for all that comes. Else (`out` alone): only what its judge says, and
	 * what it answers comes in at the interface that the frame was leaving by. */
	const struct delay_filter *filter;
};

struct detour {
	struct net_shape *bpf;
	struct delay_line *line;
	struct net_shape_lane lanes[NET_SHAPE_LANES_MAX];
	char taps[NET_SHAPE_LANES_MAX][IFNAMSIZ];
	unsigned n_lanes;
	bool only_back[NET_SHAPE_LANES_MAX];	/* for answers: nothing is taken there */
	struct net_attach *takes;
	int guards[NET_SHAPE_LANES_MAX], backs[NET_SHAPE_LANES_MAX];	/* -1 where there is no link */
};

/* Everything in place, nothing taken yet. Interfaces that are not Ethernet are left out;
 * -EOPNOTSUPP when no other is there, -EINVAL when there are too many. */
int detour_open(const struct detour_plan *plan, struct detour **ret, struct err **err);
/* One store. Frames are taken until that time of CLOCK_BOOTTIME. */
void detour_fire(struct detour *d, uint64_t until_boot_ns);
/* Ends it: new frames pass, those held are written at once, then all is closed. Takes NULL. */
void detour_close(struct detour *d);
DEFINE_CLEANUP(struct detour, detour_close)

/* The position in the name of one of our TAPs; 0 if it is none. */
uint32_t detour_tap_position(const char *name);

#define DETOUR_PROGRAMS 4
/* Ids of the loaded programs (bpf(2), BPF_PROG_GET_FD_BY_ID). */
int detour_program_ids(const struct detour *d, uint32_t ret[DETOUR_PROGRAMS], struct err **err);
/* Is one with that id loaded, and ours by its name? */
bool detour_program_is_loaded(uint32_t id);
/* Frames taken by the programs, summed over the CPUs, of one label and direction. */
int detour_count(const struct detour *d, unsigned label, enum net_direction direction,
	struct net_shape_count *ret, struct err **err);
