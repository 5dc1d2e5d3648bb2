/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What net_partition.bpf.c and its driver share. */
#pragma once

#include <linux/types.h>

/* Indices of the choices of the parameter "action" (core/catalogue/net_partition.c). */
enum net_partition_action { NET_PARTITION_DROP, NET_PARTITION_REJECT, NET_PARTITION_ACTION_MAX };

/* Value of the per-CPU map net_counts; key: label * NET_DIRECTION_MAX + enum net_direction.
 * Packets as on the wire: a GSO frame counts its segments. Bytes of frames, link header included. */
struct net_count {
	__u64 packets;
	__u64 bytes;
};
