/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What net_shape.bpf.c and its driver share. */
#pragma once

#include <linux/types.h>

#define NET_SHAPE_LANES_MAX 16

/* One direction of one interface, with the TAP that its frames take their detour through. */
struct net_shape_lane {
	__u32 ifindex;
	__u32 tap_ifindex;
	__u32 direction;	/* enum net_direction */
};

/* Value of the per-CPU map net_shape_counts; key: net_rule.label * NET_DIRECTION_MAX + direction.
 * Packets as on the wire. Bytes of frames, link header included. */
struct net_shape_count {
	__u64 frames;
	__u64 packets;
	__u64 bytes;
};
