/*
 * How the programs of a network fault come onto an instance's interfaces.
 *
 * tcx (Linux 6.6): links, in descriptors: held. Older kernels: filters of a clsact qdisc, which outlive
 * the agent. There each is a program that only leads on to the fault's own, by a table that ends with
 * the agent (bpf/net_held.bpf.c): a fault's effect is held there too, and what a killed agent leaves
 * passes everything, until it is removed by the journal (fault/net_filters.h).
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bpf/net_match.h"
#include "core/err.h"
#include "fault/fault.h"
#include "fault/net_target.h"

enum net_hook { NET_HOOK_TCX, NET_HOOK_CLSACT };

/* What this kernel has, tried for real. -EOPNOTSUPP with what is missing; what may pass (no descriptor, no
 * memory) is told as it is, and nothing is concluded from it. */
int net_hook_choose(const struct node *node, enum net_hook *ret, struct err **err);
enum lifetime net_hook_lifetime(enum net_hook hook);
/* A remark for a probe, allocated; NULL: none. */
char *net_hook_remark(enum net_hook hook);

/* The highest position of our filters on these interfaces; 0 where there are none. One that is attached
 * next must come after them. Goes on to where the next has a priority that no other filter has. */
int net_hook_highest(enum net_hook hook, int netns_fd, const struct link_info *links, size_t n_links,
	uint32_t *ret, struct err **err);

struct net_point {
	int ifindex;
	char name[IFNAMSIZ];
	enum net_direction direction;
};

#define NET_POINTS_MAX 256

struct net_attach_plan {
	const struct node *node;	/* for crash tests */
	const char *fault;		/* whose points they are */
	const char *experiment;
	enum net_hook hook;
	int netns_fd;
	uint32_t position;		/* net_position_take() */
	const struct net_point *points;
	size_t n_points;		/* at most NET_POINTS_MAX */
	int programs[NET_DIRECTION_MAX]; /* for the points of that direction; -1 where there are none */
};

struct net_attach;

/* tcx: attaches. clsact: makes all ready and decides what net_attach_place() will add. */
int net_attach_open(const struct net_attach_plan *plan, struct net_attach **ret, struct err **err);
/* clsact: what it will add and how to undo that, as a member "clsact" of the driver's record, with the
 * process by which the namespace is found. tcx: nothing. */
int net_attach_record(const struct net_attach *a, const struct instance_info *instance, cJSON *record,
	struct err **err);
/* Once the record is on disk. clsact: adds the filters; tcx: nothing. record: loses a qdisc that
 * somebody else has made since. */
int net_attach_place(struct net_attach *a, cJSON *record, struct err **err);
/* No program of the fault runs any more when it returns. tcx: detaches; clsact: the filters stay and
 * pass everything. Takes NULL. */
void net_attach_close(struct net_attach *a);

/* On an interface of our own, which takes its filters with it when it goes. tcx: *ret_fd is the link;
 * clsact: *ret_fd is -1. */
int net_attach_own(enum net_hook hook, int netns_fd, int ifindex, enum net_direction direction,
	uint32_t position, int prog_fd, int *ret_fd, struct err **err);
