/* Peers, ports, protocol and direction of a network fault, as the rows that its BPF program reads
 * (bpf/net_match.h). Shared by net-partition and net-shape. */
#pragma once

#include "bpf/net_match.h"
#include "core/err.h"
#include "core/param.h"

struct net_rules {
	struct net_rule *rules;	/* one or more a peer */
	size_t count;		/* at most NET_RULES_MAX */
	char **labels;		/* by net_rule.label: what evidence is counted under */
	size_t n_labels;
};

void net_rules_done(struct net_rules *r);
/* From the parameters "peers", "ports", "protocol". -EINVAL when there are too many. */
int net_rules_from_params(const struct params *p, struct net_rules *ret, struct err **err);
