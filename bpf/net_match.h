/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What a packet is held against. Addresses are 128 bit in network order, IPv4 as ::ffff:a.b.c.d.
 *
 * A longest-prefix-match map leads from the remote address (source of a packet that comes in,
 * destination of one that goes out) to the first rule of its most specific prefix; from there
 * `next` leads through the rules of that prefix and then of each prefix around it. So a packet to
 * an address that no rule names costs one lookup, however many rules there are.
 *
 * - A rule with ports matches when either end has a port in the range. It never matches a packet
 *   without ports: ICMP, other protocols, and later fragments (their datagram is cut all the same,
 *   since its first fragment is).
 * - Only IPv4 and IPv6 are matched. ARP, IPv6 neighbour and router discovery and multicast listener
 *   reports always pass, also where a rule says "all": they are the link, not its traffic, and a
 *   healed instance must not wait for them.
 */
#pragma once

#include <linux/types.h>

#define NET_RULES_MAX 256
#define NET_RULE_END  0xffffu

enum net_direction { NET_IN, NET_OUT, NET_DIRECTION_MAX }; /* as the instance sees it */

/* skb->mark of a frame that a delay line has put back: the low 16 bits are the position in the
 * chain of the program that took it. Programs up to that position have seen the frame before. */
#define NET_MARK_BASE	  0x706a0000u
#define NET_MARK_MASK	  0xffff0000u
#define NET_POSITION_MASK 0x0000ffffu
#define NET_POSITION_MAX  0xfffeu
/* Of an answer (RST, ICMP) that a partition made: past every position, so nothing touches it. */
#define NET_MARK_REPLY (NET_MARK_BASE | 0xffffu)

/* Key of the map: struct bpf_lpm_trie_key with 16 bytes of data. */
struct net_prefix {
	__u32 length; /* in bits of the 128 */
	__u32 address[4];
};

struct net_rule {
	__u16 port_low, port_high; /* host order, 0-65535: any, and packets without ports */
	__u8 protocol;		   /* IPPROTO_*, 0: any; ICMP stands for ICMPv6 too */
	__u8 family;		   /* 4, 6, 0: both */
	__u16 label;		   /* index of the counter */
	__u16 next;		   /* NET_RULE_END: the last */
};
