/*
 * The filters of one network fault on a kernel without tcx, as the journal keeps them: what was added
 * where, so that exactly that is removed, whoever else has filters there. Ours are told by all of
 * interface, direction, priority, handle, name, program id and tag. The clsact qdisc goes with the last
 * filter if one of our faults has made it: the name of a filter says so, to faults that come later.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"
#include "core/json.h"
#include "fault/fault.h"
#include "kernel/clsact.h"

/* Before what `tc filter add` takes by default (49152), after what asks to be first: a filter that comes
 * before ours and ends the matter hides its packets from us. */
#define NET_FILTER_PRIORITY_BASE 16
#define NET_FILTER_POSITION_MAX	 0x7fffU
#define NET_FILTER_NAME		 "pgjolt:"
#define NET_FILTER_NAME_QDISC	 "pgjolt+qdisc:"	/* on a qdisc of ours */

struct net_filter {
	struct clsact_filter filter;
	char interface[16];		/* for words */
	bool our_qdisc;
	bool add_qdisc;			/* while placing: not there yet, and this one is its first */
};

struct net_filters {
	uint64_t netns, netns_cookie;	/* netns_inode(), netns_cookie() */
	pid_t pid;			/* of a process in it */
	uint64_t start_ticks;
	struct net_filter *list;	/* at most NET_POINTS_MAX */
	size_t count;
};
void net_filters_done(struct net_filters *f);

/* A filter of ours by its name and handle: its position, else 0. */
uint32_t net_filter_position(const struct clsact_filter *f);
/* Priority, handle and name of one at that position. */
void net_filter_fill(struct clsact_filter *f, uint32_t position, bool our_qdisc,
	const char *experiment);
/* Is the qdisc of that interface ours to remove? false where there is none. */
int net_filters_qdisc_is_ours(int netlink_fd, int ifindex, bool *ret, struct err **err);

cJSON *net_filters_to_json(const struct net_filters *f);
/* -EBADMSG for what is no such record, or names what cannot be ours. */
int net_filters_from_json(const cJSON *json, struct net_filters *ret, struct err **err);

/* fault_driver.revert() and a part of .verify_clean(), for a record with a member "clsact"; without
 * one, as with tcx, there is nothing to do. */
int net_filters_revert(const struct undo *u, struct err **err);
int net_filters_verify(const struct undo *u, struct err **err);
