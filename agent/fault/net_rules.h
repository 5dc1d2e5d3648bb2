/* Peers, ports and protocol of a network fault, as the rows that its BPF program reads
 * (bpf/net_match.h). Shared by net-partition and net-shape. */
#pragma once

#include "bpf/net_match.h"
#include "core/err.h"
#include "core/param.h"

struct net_rules {
	struct net_rule *rules;	     /* one or more a peer, linked by `next` */
	struct net_prefix *prefixes; /* of each rule */
	size_t count;		     /* at most NET_RULES_MAX */
	uint32_t depth;		     /* longest way over `next`: into rodata->net_rules_depth */
	char **labels;		     /* by net_rule.label: what evidence is counted under */
	size_t n_labels;
};

void net_rules_done(struct net_rules *r);
/* From the parameters "peers", "ports", "protocol" (core/catalogue/net_params.h). A peer with ports
 * of its own keeps them, "ports" is for the others. -EINVAL when there are too many. */
int net_rules_from_params(const struct params *p, struct net_rules *ret, struct err **err);
/* For what may touch PostgreSQL's own connections alone: the same rules, all of them TCP's; peers to
 * which no ports are given, nor by "ports", get that one. -EINVAL when it is needed and 0. */
int net_rules_for_postgres(const struct params *p, uint16_t port, struct net_rules *ret,
	struct err **err);
/* One rule: every packet with that port at either end. */
int net_rules_for_port(uint16_t port, const char *label, struct net_rules *ret, struct err **err);
/* Before loading: into the skeleton's rodata->net_rules, NET_RULES_MAX rows. Set
 * rodata->net_rules_depth as well. */
void net_rules_copy(const struct net_rules *r, struct net_rule *rows);
/* After loading: into the map net_prefixes. */
int net_rules_fill(const struct net_rules *r, int prefixes_fd, struct err **err);
