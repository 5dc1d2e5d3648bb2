// SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
/*
 * What stands on an interface where a program cannot be held there by a descriptor: before Linux 6.6 a
 * filter outlives its agent. It only leads on to the fault's own program, by a table that the agent
 * holds. The kernel empties a table of programs when its last descriptor closes, although filters
 * still refer to it (kernel/bpf/syscall.c bpf_map_put_uref(), kernel/bpf/arraymap.c
 * prog_array_map_clear()). So the fault ends with the agent, killed or not, and what is left passes
 * everything.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "bpf/net_match.h"

#define VERDICT_NEXT (-1) /* TC_ACT_UNSPEC: the next filter decides */

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, NET_DIRECTION_MAX); /* by enum net_direction */
	__type(key, __u32);
	__type(value, __u32);
} net_held SEC(".maps");

SEC("tc")
int net_held_in(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &net_held, NET_IN);
	return VERDICT_NEXT;
}

SEC("tc")
int net_held_out(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &net_held, NET_OUT);
	return VERDICT_NEXT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
