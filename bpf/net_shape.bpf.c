// SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
/*
 * net-shape: sends the frames that match a rule to a TAP, where the delay line holds them, and what
 * comes back from the TAP on to where it was going. One store into until_boot_ns fires and heals it
 * for every interface and direction at once; past that time it is inert by itself.
 */
#include "bpf/net_match.bpf.h"
#include "bpf/net_shape.h"

const volatile struct net_shape_lane lanes[NET_SHAPE_LANES_MAX];
const volatile __u32 n_lanes;
const volatile __u32 position = 1;

/* 0: inert; else the boot time at which it becomes so. */
volatile __u64 until_boot_ns;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NET_RULES_MAX * NET_DIRECTION_MAX);
	__type(key, __u32);
	__type(value, struct net_shape_count);
} net_shape_counts SEC(".maps");

static __always_inline void count(struct __sk_buff *skb, __u32 label, enum net_direction direction)
{
	__u32 key = label * NET_DIRECTION_MAX + direction;
	struct net_shape_count *c = bpf_map_lookup_elem(&net_shape_counts, &key);

	if (!c)
		return;
	c->frames++;
	c->packets += skb->gso_segs > 1 ? skb->gso_segs : 1;
	c->bytes += skb->len;
}

/* The mark lets the frame past the guard of the TAP, and past this program when it comes back. */
static __always_inline int take(struct __sk_buff *skb, enum net_direction direction)
{
	struct net_packet p = {};
	__u64 until = until_boot_ns;
	int label;

	if (!until || net_released_past(skb, position) || net_parse(skb, &p, direction))
		return TCX_VERDICT_NEXT;
	label = net_match(skb, &p);
	if (label < 0 || bpf_ktime_get_boot_ns() >= until)
		return TCX_VERDICT_NEXT;
	for (__u32 i = 0; i < NET_SHAPE_LANES_MAX && i < n_lanes; i++) {
		if (lanes[i].ifindex != skb->ifindex || lanes[i].direction != direction)
			continue;
		count(skb, label, direction);
		skb->mark = NET_MARK_BASE | position;
		return bpf_redirect(lanes[i].tap_ifindex, 0);
	}
	return TCX_VERDICT_NEXT;
}

SEC("tc")
int net_shape_in(struct __sk_buff *skb)
{
	return take(skb, NET_IN);
}

SEC("tc")
int net_shape_out(struct __sk_buff *skb)
{
	return take(skb, NET_OUT);
}

/* On the TAP's egress: what the stack itself would send through it goes nowhere. */
SEC("tc")
int net_shape_guard(struct __sk_buff *skb)
{
	return skb->mark == (NET_MARK_BASE | position) ? TCX_VERDICT_NEXT : TCX_VERDICT_DROP;
}

/* On the TAP's ingress: what the delay line lets go. Nothing of it may reach the stack as traffic
 * of the TAP. */
SEC("tc")
int net_shape_back(struct __sk_buff *skb)
{
	for (__u32 i = 0; i < NET_SHAPE_LANES_MAX && i < n_lanes; i++) {
		if (lanes[i].tap_ifindex != skb->ifindex)
			continue;
		skb->mark = NET_MARK_BASE | position;
		return bpf_redirect(lanes[i].ifindex,
			lanes[i].direction == NET_IN ? BPF_F_INGRESS : 0);
	}
	return TCX_VERDICT_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
