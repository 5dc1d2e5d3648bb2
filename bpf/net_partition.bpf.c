// SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
/*
 * net-partition: drops or rejects the frames that match a rule, on the interfaces of one instance.
 * One store into until_boot_ns fires and heals it for every interface and direction at once; past
 * that time it is inert by itself.
 */
#include "bpf/net_match.bpf.h"
#include "bpf/net_partition.h"
#include "bpf/net_reject.bpf.h"

#define PPM_ALL 1000000

const volatile __u32 action = NET_PARTITION_DROP;
const volatile __u32 chance_ppm = PPM_ALL;
const volatile __u32 position = 1;

/* 0: inert; else the boot time at which it becomes so. */
volatile __u64 until_boot_ns;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NET_RULES_MAX * NET_DIRECTION_MAX);
	__type(key, __u32);
	__type(value, struct net_count);
} net_counts SEC(".maps");

static __always_inline void count(struct __sk_buff *skb, __u32 label, enum net_direction direction)
{
	__u32 key = label * NET_DIRECTION_MAX + direction;
	struct net_count *c = bpf_map_lookup_elem(&net_counts, &key);

	if (!c)
		return;
	c->packets += skb->gso_segs > 1 ? skb->gso_segs : 1;
	c->bytes += skb->len;
}

/* A frame that a delay line has put back was rolled for already if we saw it on its way in. With
 * certainty asked there is nothing to roll, and frames that were held as we fired are cut too. */
static __always_inline bool is_spared(struct __sk_buff *skb)
{
	if (chance_ppm >= PPM_ALL)
		return false;
	if (net_released_past(skb, position))
		return true;
	return (__u64)bpf_get_prandom_u32() * PPM_ALL >> 32 >= chance_ppm;
}

static __always_inline int partition(struct __sk_buff *skb, enum net_direction direction)
{
	struct net_packet p = {};
	__u64 until = until_boot_ns;
	int label;

	if (!until || skb->mark == NET_MARK_REPLY || net_parse(skb, &p, direction))
		return TCX_VERDICT_NEXT;
	label = net_match(skb, &p);
	if (label < 0 || bpf_ktime_get_boot_ns() >= until || is_spared(skb))
		return TCX_VERDICT_NEXT;
	count(skb, label, direction);
	if (action == NET_PARTITION_REJECT)
		return net_reject(skb, &p, direction);
	return net_lose(direction);
}

SEC("tc")
int net_part_in(struct __sk_buff *skb)
{
	return partition(skb, NET_IN);
}

SEC("tc")
int net_part_out(struct __sk_buff *skb)
{
	return partition(skb, NET_OUT);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
