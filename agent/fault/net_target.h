/* The place where a network fault acts: an instance's interfaces, and the order of the programs on
 * them. Shared by net-partition and net-shape. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "core/wire.h"
#include "kernel/link.h"

/* A namespace by name: a descriptor would keep that of a deleted pod. */
struct net_space {
	uint64_t inode;
	uint64_t cookie;	 /* 0 where the kernel has none (kernel/netns.h) */
};

int net_space_of(int netns_fd, struct net_space *ret, struct err **err);
/* For a driver's target_is_gone: nobody is in it any more, and it is mounted nowhere that we can see. A
 * container that is started again in the same pod finds it again, and the fault in it. */
bool net_space_is_gone(const struct net_space *s, const struct instance_info *i);

struct net_target {
	int netns_fd;		 /* until net_target_close() */
	struct net_space space;
	struct link_info *links; /* without loopback and without our own TAPs; at least one */
	size_t n_links;
};

void net_target_done(struct net_target *t);
/* -ESTALE when the instance is gone, -EPERM for the node's own network, -EOPNOTSUPP where there is
 * no interface but loopback. */
int net_target_open(const struct instance_info *i, struct net_target *ret, struct err **err);

/* Once all is in place. */
void net_target_close(struct net_target *t);

/* The namespace alone. -ESTALE and -EPERM as above. */
int net_target_netns(const struct instance_info *i, int *ret_fd, uint64_t *ret_inode,
	struct err **err);

/* Position of a program that is attached next, above all that are attached now (1 to
 * NET_POSITION_MAX): the marks of delay lines are compared with it. Control thread only. -EBUSY
 * when there are no more until those in use are dropped. */
int net_position_take(uint32_t *ret, struct err **err);
/* The same, but above one that something is at already that this process does not count. */
int net_position_take_above(uint32_t highest, uint32_t *ret, struct err **err);
void net_position_drop(uint32_t position);
