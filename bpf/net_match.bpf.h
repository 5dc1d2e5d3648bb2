/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The matcher of the network faults: parses a frame once and finds its first rule. Verifies from
 * Linux 5.13 on (bounded loops, global functions with pointers). Include it from one program file: it defines the maps. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "bpf/net_match.h"

#define TCX_VERDICT_NEXT (-1)
#define TCX_VERDICT_DROP 2

#define NET_VLAN_TAGS	  2
#define NET_IPV6_HEADERS  8
#define NET_IP_OFFSET	  0x1fff
#define NET_ICMPV6_IS_LINK(type) (((type) >= 130 && (type) <= 137) || (type) == 143)

const volatile struct net_rule net_rules[NET_RULES_MAX];
/* The longest way from any rule over `next`. A constant to the verifier, which so walks the loop no
 * further than these rules need: the time to load is that of the rules given, not of the limit. */
const volatile __u32 net_rules_depth = NET_RULES_MAX;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, NET_RULES_MAX);
	__type(key, struct net_prefix);
	__type(value, __u32); /* index into net_rules */
} net_prefixes SEC(".maps");

struct net_packet {
	struct net_prefix remote; /* length 128: ready to look up */
	__u32 l3, l4;		  /* offsets in the frame */
	__u16 ports[2];		  /* source, destination; host order */
	__u8 protocol;
	__u8 family; /* 4 or 6 */
	bool has_ports;
	bool later_fragment;
};

/* Is an IP packet of just the rest of the frame at this offset? */
static __always_inline bool net_is_packet(struct __sk_buff *skb, __u32 at)
{
	__u8 head[6];

	if (bpf_skb_load_bytes(skb, at, head, sizeof(head)))
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return head[0] >> 4 == 4 && at + (head[2] << 8 | head[3]) == skb->len;
	return head[0] >> 4 == 6 && at + sizeof(struct ipv6hdr) + (head[4] << 8 | head[5]) == skb->len;
}

/* Offset and EtherType of the network header; 0 for a frame too short. Devices without a link
 * header (tun, WireGuard) begin with the address family itself. */
static __always_inline __u16 net_parse_link(struct __sk_buff *skb, __u32 *l3)
{
	struct ethhdr eth;
	__u16 type;

	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return 0;
	*l3 = sizeof(eth);
	type = eth.h_proto;
	/* A source such as 8.0.0.1 stands where the EtherType would, and reads as that of IPv4. */
	if ((type == bpf_htons(ETH_P_IP) || type == bpf_htons(ETH_P_IPV6)) &&
		type == (__u16)skb->protocol && net_is_packet(skb, 0) &&
		!net_is_packet(skb, sizeof(eth))) {
		*l3 = 0;
		return type;
	}
	if (type != (__u16)skb->protocol) {
		__u8 version = eth.h_dest[0] >> 4;

		if ((version == 4 && skb->protocol == bpf_htons(ETH_P_IP)) ||
			(version == 6 && skb->protocol == bpf_htons(ETH_P_IPV6))) {
			*l3 = 0;
			return (__u16)skb->protocol;
		}
	}
#pragma unroll
	for (int i = 0; i < NET_VLAN_TAGS; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, *l3 + 2, &type, sizeof(type)))
			return 0;
		*l3 += 4;
	}
	return type;
}

static __always_inline int net_parse_ipv4(struct __sk_buff *skb, struct net_packet *p,
	enum net_direction direction)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return -1;
	p->family = 4;
	p->protocol = ip.protocol;
	p->l4 = p->l3 + ip.ihl * 4u;
	p->later_fragment = ip.frag_off & bpf_htons(NET_IP_OFFSET);
	p->remote.address[2] = bpf_htonl(0xffff);
	p->remote.address[3] = direction == NET_IN ? ip.saddr : ip.daddr;
	return 0;
}

/* Walks the extension headers. Past the bound the packet is one of an unknown protocol: it is still
 * matched by its address. A global function: the verifier walks it once, by itself. */
__noinline int net_walk_ipv6(struct __sk_buff *skb, struct net_packet *p)
{
	if (!p)
		return 0;
	for (int i = 0; i < NET_IPV6_HEADERS; i++) {
		__u8 head[4];
		__u8 type = p->protocol;

		if (type != IPPROTO_HOPOPTS && type != IPPROTO_ROUTING &&
			type != IPPROTO_DSTOPTS && type != IPPROTO_FRAGMENT && type != IPPROTO_AH)
			return 0;
		if (bpf_skb_load_bytes(skb, p->l4, head, sizeof(head)))
			return 0;
		p->protocol = head[0];
		if (type == IPPROTO_FRAGMENT) {
			p->l4 += 8;
			if (head[2] || head[3] & 0xf8) {
				p->later_fragment = true;
				return 0;
			}
		} else if (type == IPPROTO_AH) {
			p->l4 += (head[1] + 2u) * 4;
		} else {
			p->l4 += (head[1] + 1u) * 8;
		}
	}
	return 0;
}

static __always_inline int net_parse_ipv6(struct __sk_buff *skb, struct net_packet *p,
	enum net_direction direction)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)) || ip.version != 6)
		return -1;
	p->family = 6;
	p->protocol = ip.nexthdr;
	p->l4 = p->l3 + sizeof(ip);
	__builtin_memcpy(p->remote.address, direction == NET_IN ? &ip.saddr : &ip.daddr,
		sizeof(p->remote.address));
	net_walk_ipv6(skb, p);
	if (p->protocol == IPPROTO_ICMPV6 && !p->later_fragment) {
		__u8 type = 0;

		bpf_skb_load_bytes(skb, p->l4, &type, sizeof(type));
		if (NET_ICMPV6_IS_LINK(type))
			return -1;
	}
	return 0;
}

/* 0, or -1 for a frame that no rule may match. *p must be zeroed. */
static __always_inline int net_parse(struct __sk_buff *skb, struct net_packet *p,
	enum net_direction direction)
{
	__u16 type = net_parse_link(skb, &p->l3);
	int r = -1;

	if (type == bpf_htons(ETH_P_IP))
		r = net_parse_ipv4(skb, p, direction);
	else if (type == bpf_htons(ETH_P_IPV6))
		r = net_parse_ipv6(skb, p, direction);
	if (r)
		return r;
	p->remote.length = 128;
	return 0;
}

/* Only once a rule may match: most frames of a bystander are told by their address alone. */
static __always_inline void net_parse_ports(struct __sk_buff *skb, struct net_packet *p)
{
	if (!p->later_fragment && (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP ||
		p->protocol == IPPROTO_SCTP || p->protocol == IPPROTO_DCCP)) {
		__u16 ports[2];

		if (bpf_skb_load_bytes(skb, p->l4, ports, sizeof(ports)) == 0) {
			p->ports[0] = bpf_ntohs(ports[0]);
			p->ports[1] = bpf_ntohs(ports[1]);
			p->has_ports = true;
		}
	}
}

static __always_inline bool net_rule_matches(const volatile struct net_rule *rule,
	const struct net_packet *p)
{
	__u16 low = rule->port_low, high = rule->port_high;
	__u8 family = rule->family, protocol = rule->protocol;

	if (family && family != p->family)
		return false;
	if (protocol && protocol != p->protocol &&
		!(protocol == IPPROTO_ICMP && p->protocol == IPPROTO_ICMPV6))
		return false;
	if (low == 0 && high == 0xffff)
		return true;
	return p->has_ports && ((p->ports[0] >= low && p->ports[0] <= high) ||
		(p->ports[1] >= low && p->ports[1] <= high));
}

/* Label of the first rule from `i` on that matches; -1: none. A global function: the verifier walks
 * its loop once, not once for each way that led here. */
__noinline int net_match_from(const struct net_packet *p, __u32 i)
{
	const __u32 depth = net_rules_depth;

	if (!p)
		return -1;
	for (__u32 n = 0; n < depth && n < NET_RULES_MAX; n++) {
		if (i >= NET_RULES_MAX)
			return -1;
		/* The verifier must see the bound on the very register that indexes. */
		asm volatile("" : "+r"(i));
		i &= NET_RULES_MAX - 1;
		if (net_rule_matches(&net_rules[i], p))
			return net_rules[i].label;
		i = net_rules[i].next;
	}
	return -1;
}

/* Label of the first rule that matches, most specific prefix first; -1: none. The ports of *p are
 * known only after a prefix did match. */
static __always_inline int net_match(struct __sk_buff *skb, struct net_packet *p)
{
	const __u32 *first = bpf_map_lookup_elem(&net_prefixes, &p->remote);

	if (!first)
		return -1;
	net_parse_ports(skb, p);
	return net_match_from(p, *first);
}

/* Loses the frame as a cut cable does. A plain drop on the way out would be reported to the sender
 * as local congestion (ENOBUFS, a TCP segment that counts as never sent); a redirect to no interface
 * frees the frame and reports success (net/core/filter.c, skb_do_redirect()). */
static __always_inline int net_lose(enum net_direction direction)
{
	return direction == NET_OUT ? bpf_redirect(0, 0) : TCX_VERDICT_DROP;
}

/* Is it a frame that a delay line at or past this position has put back? */
static __always_inline bool net_released_past(const struct __sk_buff *skb, __u32 position)
{
	return (skb->mark & NET_MARK_MASK) == NET_MARK_BASE &&
		(skb->mark & NET_POSITION_MASK) >= position;
}
