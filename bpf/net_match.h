/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* One row that a packet is held against. Addresses are 128 bit, IPv4 as ::ffff:a.b.c.d, both in
 * network order; mask likewise. A row with ports matches when either end has a port in the range. */
#pragma once

#ifdef __bpf__
#include <linux/types.h>
#else
#include <linux/types.h>
#endif

#define NET_RULES_MAX 256

struct net_rule {
	__u32 address[4];
	__u32 mask[4];
	__u16 port_low, port_high;	/* host order */
	__u8 protocol;			/* IPPROTO_*, 0: any; ICMP stands for ICMPv6 too */
	__u8 family;			/* 4, 6, 0: both */
	__u16 label;			/* index of the counter */
};
