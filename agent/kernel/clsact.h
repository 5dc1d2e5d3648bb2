/*
 * sched_cls programs on an interface as direct-action cls_bpf filters of a clsact qdisc (tc-bpf(8),
 * net/sched/cls_bpf.c, Linux 4.5): what there is before tcx. A filter stays until it is removed or its
 * interface goes. All over a route socket of the namespace, netlink_open(netns, NETLINK_ROUTE).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "kernel/tcx.h"

#define CLSACT_NAME_MAX 96	/* with its NUL */
#define CLSACT_TAG_SIZE 8
#define CLSACT_KIND_MAX 16	/* include/net/pkt_sched.h, IFNAMSIZ */

struct clsact_filter {
	int ifindex;
	enum tcx_direction direction;
	uint16_t priority;		/* lower ones come first */
	uint32_t handle;
	char name[CLSACT_NAME_MAX];	/* free text; "" for what is no cls_bpf filter */
	uint32_t program;		/* id; 0 for what is no cls_bpf filter */
	uint8_t tag[CLSACT_TAG_SIZE];	/* digest of the program */
};

enum clsact_qdisc {
	CLSACT_ABSENT,
	CLSACT_PRESENT,
	CLSACT_OTHER,		/* a qdisc in its place that has no egress, such as "ingress" */
};

/* kind: of CLSACT_OTHER, else empty; NULL: not asked for. */
int clsact_qdisc_look(int fd, int ifindex, enum clsact_qdisc *ret, char kind[CLSACT_KIND_MAX],
	struct err **err);
/* -EEXIST when it, or another in its place, is there. */
int clsact_qdisc_add(int fd, int ifindex, struct err **err);
/* With every filter on it. One that is gone is success. */
int clsact_qdisc_delete(int fd, int ifindex, struct err **err);

/* Every filter of that direction, whatever its kind. None where there is no qdisc or no interface.
 * Caller frees. */
int clsact_filter_list(int fd, int ifindex, enum tcx_direction direction, struct clsact_filter **ret,
	size_t *ret_count, struct err **err);
/* -EEXIST when the handle is taken. f->program and f->tag are not used. */
int clsact_filter_add(int fd, const struct clsact_filter *f, int prog_fd, struct err **err);
/* By interface, direction, priority and handle. One that is gone is success. */
int clsact_filter_delete(int fd, const struct clsact_filter *f, struct err **err);

/* As tcx_supported(). */
int clsact_supported(struct err **err);
