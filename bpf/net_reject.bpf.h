/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Answers a frame as a firewall does, by turning it into its own answer: TCP gets a RST (RFC 9293
 * 3.10.7.1), all else an ICMP error (RFC 792, RFC 4443): UDP "port unreachable", which a connected
 * socket sees as ECONNREFUSED, the rest "administratively prohibited". The answer goes to the
 * sender: back into the interface for a frame on its way out, out of it for one that came in.
 *
 * Where an answer is not allowed (to a RST, an ICMP error, a later fragment, a multicast) or cannot
 * be made in place (IP options below an ICMP error, tunnels offloaded to the device) the frame is
 * just dropped.
 *
 * Checksums: a frame of the local stack may carry only the sum of its pseudo header, to be finished
 * by the device (CHECKSUM_PARTIAL). A program cannot read that state, but
 * bpf_l4_csum_replace() without BPF_F_PSEUDO_HDR leaves the field of such a frame alone, and that
 * shows it.
 */
#pragma once

#include <linux/tcp.h>
#include "bpf/net_match.bpf.h"

#define NET_STORE    (BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH)
#define NET_REPLY_TTL 64
#define NET_QUOTE     8 /* bytes of the transport header that an ICMP error gives back */

/* <linux/icmp.h> drags in the C library's headers, which have no BPF side. */
struct net_icmp {
	__u8 type, code;
	__u16 checksum;
	__u32 unused;
};

enum { ICMP_REPLY = 0, ICMP_UNREACHABLE = 3, ICMP_REQUEST = 8, ICMP_TIME = 13, ICMP_TIME_REPLY = 14 };
enum { ICMP_CODE_PORT = 3, ICMP_CODE_PROHIBITED = 13 };
enum { ICMP6_UNREACHABLE = 1, ICMP6_FIRST_INFORMATIONAL = 128 };
enum { ICMP6_CODE_PROHIBITED = 1, ICMP6_CODE_PORT = 4 };

static __always_inline __u16 net_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

/* Ones' complement sum of `size` bytes (a multiple of 4) on top of another. */
static __always_inline __u16 net_sum(const void *data, __u32 size, __u64 seed)
{
	return net_fold(bpf_csum_diff(0, 0, (__be32 *)data, size, net_fold(seed)));
}

/* Is the checksum of this frame left to the device? `offset` names two bytes, which are zero. */
static __always_inline bool net_csum_is_partial(struct __sk_buff *skb, __u32 offset)
{
	__u16 after = 0, zero = 0;

	if (bpf_l4_csum_replace(skb, offset, 0, bpf_htons(0x0102), 2) ||
		bpf_skb_load_bytes(skb, offset, &after, sizeof(after)))
		return false;
	if (!after)
		return true;
	bpf_skb_store_bytes(skb, offset, &zero, sizeof(zero), 0);
	return false;
}

static __always_inline bool net_swap_link(struct __sk_buff *skb, const struct net_packet *p)
{
	__u8 from[12], to[12];

	if (p->l3 < ETH_HLEN)
		return true;
	if (bpf_skb_load_bytes(skb, 0, from, sizeof(from)))
		return false;
	__builtin_memcpy(to, from + 6, 6);
	__builtin_memcpy(to + 6, from, 6);
	return bpf_skb_store_bytes(skb, 0, to, sizeof(to), NET_STORE) == 0;
}

static __always_inline int net_send_back(struct __sk_buff *skb, enum net_direction direction)
{
	skb->mark = NET_MARK_REPLY;
	return bpf_redirect(skb->ifindex, direction == NET_OUT ? BPF_F_INGRESS : 0);
}

/* Turns the IPv4 header around, options kept. *sum: of the pseudo header of a TCP answer; *payload:
 * bytes that followed the header before. */
static __always_inline int net_turn_ipv4(struct __sk_buff *skb, const struct net_packet *p,
	__u32 *payload, __u64 *sum)
{
	__u8 head[64] = {};
	struct iphdr *ip = (struct iphdr *)head;
	__u32 length = p->l4 - p->l3, source;

	if (length < sizeof(*ip) || length > 60)
		return -1;
	/* The verifier must see the bounds on the very register that is passed on. Before Linux 6.8 it
	 * learns nothing from "not 0". */
	asm volatile("" : "+r"(length));
	length &= sizeof(head) - 1;
	if (length < sizeof(*ip))
		return -1;
	if (bpf_skb_load_bytes(skb, p->l3, head, length))
		return -1;
	*payload = bpf_ntohs(ip->tot_len) - length;
	source = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = source;
	ip->tot_len = bpf_htons(length + sizeof(struct tcphdr));
	ip->tos = 0;
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000); /* don't fragment */
	ip->ttl = NET_REPLY_TTL;
	ip->check = 0;
	ip->check = ~net_sum(head, sizeof(head), 0);
	*sum = net_sum(&ip->saddr, 8, 0);
	return bpf_skb_store_bytes(skb, p->l3, head, length, NET_STORE) ? -1 : 0;
}

static __always_inline int net_turn_ipv6(struct __sk_buff *skb, const struct net_packet *p,
	__u32 *payload, __u64 *sum)
{
	__u32 extensions = p->l4 - p->l3 - sizeof(struct ipv6hdr);
	struct ipv6hdr ip;
	struct in6_addr source;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return -1;
	*payload = bpf_ntohs(ip.payload_len) - extensions;
	source = ip.saddr;
	ip.saddr = ip.daddr;
	ip.daddr = source;
	ip.payload_len = bpf_htons(extensions + sizeof(struct tcphdr));
	ip.hop_limit = NET_REPLY_TTL;
	*sum = net_sum(&ip.saddr, 32, 0);
	return bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), NET_STORE) ? -1 : 0;
}

static __noinline int net_reject_tcp(struct __sk_buff *skb, struct net_packet *p,
	enum net_direction direction)
{
	struct tcphdr old, new = {};
	__u32 payload;
	__u64 sum;
	int r;

	if (!p->has_ports || bpf_skb_load_bytes(skb, p->l4, &old, sizeof(old)) || old.rst)
		return net_lose(direction);
	if (bpf_skb_change_tail(skb, p->l4 + sizeof(new), 0) || !net_swap_link(skb, p))
		return net_lose(direction);
	r = p->family == 4 ? net_turn_ipv4(skb, p, &payload, &sum)
			   : net_turn_ipv6(skb, p, &payload, &sum);
	if (r)
		return net_lose(direction);
	new.source = old.dest;
	new.dest = old.source;
	new.doff = sizeof(new) / 4;
	new.rst = 1;
	if (old.ack) {
		new.seq = old.ack_seq;
	} else {
		new.ack = 1;
		new.ack_seq = bpf_htonl(bpf_ntohl(old.seq) + old.syn + old.fin + payload -
			old.doff * 4u);
	}
	if (bpf_skb_store_bytes(skb, p->l4, &new, sizeof(new), NET_STORE))
		return net_lose(direction);
	sum += bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(new));
	if (net_csum_is_partial(skb, p->l4 + offsetof(struct tcphdr, check)))
		new.check = net_fold(sum);
	else
		new.check = ~net_sum(&new, sizeof(new), sum);
	if (bpf_skb_store_bytes(skb, p->l4 + offsetof(struct tcphdr, check), &new.check,
		sizeof(new.check), NET_STORE))
		return net_lose(direction);
	return net_send_back(skb, direction);
}

/* RFC 1122 3.2.2 and RFC 4443 2.4 (e): what must not be answered by an ICMP error. */
static __always_inline bool net_may_answer(struct __sk_buff *skb, const struct net_packet *p)
{
	__u8 link[1], type = 0;

	if (p->later_fragment || p->l3 < ETH_HLEN || bpf_skb_load_bytes(skb, 0, link, 1) ||
		link[0] & 1)
		return false;
	if (p->protocol != IPPROTO_ICMP && p->protocol != IPPROTO_ICMPV6)
		return true;
	if (bpf_skb_load_bytes(skb, p->l4, &type, 1))
		return false;
	if (p->protocol == IPPROTO_ICMPV6)
		return type >= ICMP6_FIRST_INFORMATIONAL;
	return type == ICMP_REQUEST || type == ICMP_REPLY || type == ICMP_TIME ||
		type == ICMP_TIME_REPLY;
}

/* On its way out a frame whose checksum is left to the device gets it written at the old UDP offset:
 * the second half of the ICMP header's unused word. A seed of the pseudo header's sum (0 for IPv4)
 * makes that come out as a zero of ones' complement. Other protocols use other offsets. */
static __always_inline bool net_seed_checksum(struct __sk_buff *skb, const struct net_packet *p,
	enum net_direction direction, __u16 seed)
{
	__u32 offset = p->l4 + 6;
	__u32 at = p->l3 + (p->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) + 6;

	if (direction == NET_OUT || !net_csum_is_partial(skb, at))
		return true;
	if (p->protocol != IPPROTO_UDP || offset != at)
		return false;
	return !seed || bpf_skb_store_bytes(skb, at, &seed, sizeof(seed), 0) == 0;
}

static __noinline int net_reject_ipv4(struct __sk_buff *skb, struct net_packet *p,
	enum net_direction direction)
{
	struct {
		struct iphdr ip;
		struct net_icmp icmp;
		struct iphdr quote;
		__u8 transport[NET_QUOTE];
	} a = {};
	bool udp = p->protocol == IPPROTO_UDP;

	if (p->l4 - p->l3 != sizeof(a.ip) || !net_may_answer(skb, p) ||
		bpf_skb_load_bytes(skb, p->l3, &a.quote, sizeof(a.quote) + sizeof(a.transport)))
		return net_lose(direction);
	a.ip.version = 4;
	a.ip.ihl = sizeof(a.ip) / 4;
	a.ip.tot_len = bpf_htons(sizeof(a));
	a.ip.ttl = NET_REPLY_TTL;
	a.ip.protocol = IPPROTO_ICMP;
	a.ip.saddr = a.quote.daddr;
	a.ip.daddr = a.quote.saddr;
	a.ip.check = ~net_sum(&a.ip, sizeof(a.ip), 0);
	a.icmp.type = ICMP_UNREACHABLE;
	a.icmp.code = udp ? ICMP_CODE_PORT : ICMP_CODE_PROHIBITED;
	a.icmp.checksum = ~net_sum(&a.icmp, sizeof(a) - sizeof(a.ip), 0);
	if (bpf_skb_change_tail(skb, p->l3 + sizeof(a), 0) || !net_swap_link(skb, p) ||
		bpf_skb_store_bytes(skb, p->l3, &a, sizeof(a), NET_STORE) ||
		!net_seed_checksum(skb, p, direction, 0))
		return net_lose(direction);
	return net_send_back(skb, direction);
}

static __noinline int net_reject_ipv6(struct __sk_buff *skb, struct net_packet *p,
	enum net_direction direction)
{
	struct {
		struct ipv6hdr ip;
		struct net_icmp icmp;
		struct ipv6hdr quote;
		__u8 transport[NET_QUOTE];
	} a = {};
	bool udp = p->protocol == IPPROTO_UDP;
	const __u32 body = sizeof(a) - sizeof(a.ip);
	__u64 pseudo;

	if (p->l4 - p->l3 != sizeof(a.ip) || !net_may_answer(skb, p) ||
		bpf_skb_load_bytes(skb, p->l3, &a.quote, sizeof(a.quote) + sizeof(a.transport)))
		return net_lose(direction);
	a.ip.version = 6;
	a.ip.payload_len = bpf_htons(body);
	a.ip.nexthdr = IPPROTO_ICMPV6;
	a.ip.hop_limit = NET_REPLY_TTL;
	a.ip.saddr = a.quote.daddr;
	a.ip.daddr = a.quote.saddr;
	a.icmp.type = ICMP6_UNREACHABLE;
	a.icmp.code = udp ? ICMP6_CODE_PORT : ICMP6_CODE_PROHIBITED;
	pseudo = net_sum(&a.ip.saddr, 32, 0);
	pseudo += bpf_htons(IPPROTO_ICMPV6) + bpf_htons(body);
	a.icmp.checksum = ~net_sum(&a.icmp, sizeof(a) - sizeof(a.ip), pseudo);
	if (bpf_skb_change_tail(skb, p->l3 + sizeof(a), 0) || !net_swap_link(skb, p) ||
		bpf_skb_store_bytes(skb, p->l3, &a, sizeof(a), NET_STORE) ||
		!net_seed_checksum(skb, p, direction, net_fold(pseudo)))
		return net_lose(direction);
	return net_send_back(skb, direction);
}

static __always_inline int net_reject(struct __sk_buff *skb, struct net_packet *p,
	enum net_direction direction)
{
	if (p->protocol == IPPROTO_TCP && !p->later_fragment)
		return net_reject_tcp(skb, p, direction);
	return p->family == 4 ? net_reject_ipv4(skb, p, direction)
			      : net_reject_ipv6(skb, p, direction);
}
