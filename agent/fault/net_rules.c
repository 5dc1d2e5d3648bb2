#include "fault/net_rules.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include "core/catalogue/net_params.h"
#include "core/json.h"

#define IPV4_MAPPED_BITS 96

void net_rules_done(struct net_rules *r)
{
	free(r->rules);
	free(r->prefixes);
	strv_free(r->labels);
	*r = (struct net_rules){0};
}

/* IPPROTO_*, 0: any. */
static const uint8_t protocols[] = {
	[NET_PROTOCOL_ANY] = 0,
	[NET_PROTOCOL_TCP] = IPPROTO_TCP,
	[NET_PROTOCOL_UDP] = IPPROTO_UDP,
	[NET_PROTOCOL_ICMP] = IPPROTO_ICMP,
};

static struct net_prefix prefix_of(const struct peer *peer)
{
	struct net_prefix x = {0};

	if (peer->family == AF_INET) {
		x.length = IPV4_MAPPED_BITS + peer->prefix_length;
		x.address[2] = htonl(0xffff);
		memcpy(&x.address[3], peer->address, 4);
	} else if (peer->family == AF_INET6) {
		x.length = peer->prefix_length;
		memcpy(x.address, peer->address, sizeof(x.address));
	}
	return x;
}

/* Is x within `around`? */
static bool prefix_within(const struct net_prefix *x, const struct net_prefix *around)
{
	uint32_t left = around->length;

	if (around->length > x->length)
		return false;
	for (size_t i = 0; i < 4 && left > 0; i++) {
		uint32_t bits = left < 32 ? left : 32;
		uint32_t mask = htonl(bits == 32 ? UINT32_MAX : ~(UINT32_MAX >> bits));

		if ((x->address[i] ^ around->address[i]) & mask)
			return false;
		left -= bits;
	}
	return true;
}

static bool prefix_equal(const struct net_prefix *a, const struct net_prefix *b)
{
	return a->length == b->length && prefix_within(a, b);
}

/* First rule of the prefix of rule i. */
static uint16_t first_of(const struct net_rules *r, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (prefix_equal(&r->prefixes[j], &r->prefixes[i]))
			return (uint16_t)j;
	return (uint16_t)i;
}

/* The next rule of the same prefix, else the first of the closest prefix around it. */
static uint16_t next_of(const struct net_rules *r, size_t i)
{
	size_t closest = r->count;

	for (size_t j = i + 1; j < r->count; j++)
		if (prefix_equal(&r->prefixes[j], &r->prefixes[i]))
			return (uint16_t)j;
	for (size_t j = 0; j < r->count; j++) {
		if (r->prefixes[j].length >= r->prefixes[i].length ||
			!prefix_within(&r->prefixes[i], &r->prefixes[j]))
			continue;
		if (closest == r->count ||
			r->prefixes[j].length > r->prefixes[closest].length)
			closest = j;
	}
	return closest == r->count ? NET_RULE_END : (uint16_t)closest;
}

static void link_rules(struct net_rules *r)
{
	for (size_t i = 0; i < r->count; i++)
		r->rules[i].next = next_of(r, i);
	for (size_t i = 0; i < r->count; i++) {
		uint32_t depth = 0;

		for (uint16_t j = (uint16_t)i; j != NET_RULE_END; j = r->rules[j].next)
			depth++;
		if (depth > r->depth)
			r->depth = depth;
	}
}

static uint16_t label_index(struct net_rules *r, const char *label)
{
	for (size_t i = 0; i < r->n_labels; i++)
		if (strcmp(r->labels[i], label) == 0)
			return (uint16_t)i;
	strv_push(&r->labels, strdup(label));
	return (uint16_t)r->n_labels++;
}

static void add_rule(struct net_rules *r, const struct peer *peer, const struct peer *ports,
	uint8_t protocol)
{
	r->prefixes[r->count] = prefix_of(peer);
	r->rules[r->count++] = (struct net_rule){
		.port_low = ports->port_low,
		.port_high = ports->port_high,
		.protocol = protocol,
		.family = peer->family == AF_INET ? 4 : peer->family == AF_INET6 ? 6 : 0,
		.label = label_index(r, peer->label),
	};
}

static bool any_port(const struct peer *peer)
{
	return peer->port_low == 0 && peer->port_high == UINT16_MAX;
}

static int check_count(const struct peer_list *peers, const struct peer_list *ports,
	struct err **err)
{
	size_t n = 0;

	for (size_t i = 0; i < peers->count; i++) {
		n += ports->count && any_port(&peers->peers[i]) ? ports->count : 1;
		if (n > NET_RULES_MAX)
			return err_set(err, EINVAL,
				"peers: %zu peers with %zu port ranges are more than %d rules",
				peers->count, ports->count, NET_RULES_MAX);
	}
	if (n == 0)
		return err_set(err, EINVAL, "peers: none given");
	return 0;
}

int net_rules_from_params(const struct params *p, struct net_rules *ret, struct err **err)
{
	const struct peer_list *peers = params_peers(p, "peers");
	const struct peer_list *ports = params_peers(p, "ports");
	uint8_t protocol = protocols[params_number(p, "protocol")];
	struct net_rules r = {0};
	int e;

	e = check_count(peers, ports, err);
	if (e < 0)
		return e;
	r.rules = calloc(NET_RULES_MAX, sizeof(*r.rules));
	r.prefixes = calloc(NET_RULES_MAX, sizeof(*r.prefixes));
	if (!r.rules || !r.prefixes) {
		net_rules_done(&r);
		return err_set(err, ENOMEM, "peers: out of memory");
	}
	for (size_t i = 0; i < peers->count; i++) {
		const struct peer *peer = &peers->peers[i];

		if (!ports->count || !any_port(peer)) {
			add_rule(&r, peer, peer, protocol);
			continue;
		}
		for (size_t j = 0; j < ports->count; j++)
			add_rule(&r, peer, &ports->peers[j], protocol);
	}
	link_rules(&r);
	*ret = r;
	return 0;
}

int net_rules_for_port(uint16_t port, const char *label, struct net_rules *ret, struct err **err)
{
	const struct peer peer = {.port_low = port, .port_high = port, .label = (char *)label};
	struct net_rules r = {
		.rules = calloc(NET_RULES_MAX, sizeof(*r.rules)),
		.prefixes = calloc(NET_RULES_MAX, sizeof(*r.prefixes)),
	};

	if (!r.rules || !r.prefixes) {
		net_rules_done(&r);
		return err_set(err, ENOMEM, "rules: out of memory");
	}
	add_rule(&r, &peer, &peer, 0);
	link_rules(&r);
	*ret = r;
	return 0;
}

int net_rules_for_postgres(const struct params *p, uint16_t port, struct net_rules *ret,
	struct err **err)
{
	struct net_rules r = {0};
	int e = net_rules_from_params(p, &r, err);

	if (e < 0)
		return e;
	for (size_t i = 0; i < r.count; i++) {
		struct net_rule *rule = &r.rules[i];

		rule->protocol = IPPROTO_TCP;
		if (rule->port_low != 0 || rule->port_high != UINT16_MAX)
			continue;
		if (port == 0) {
			net_rules_done(&r);
			return err_set(err, EINVAL, "ports: needed, as the instance's own is unknown");
		}
		rule->port_low = rule->port_high = port;
	}
	*ret = r;
	return 0;
}

void net_rules_copy(const struct net_rules *r, struct net_rule *rows)
{
	if (r->count > 0)
		memcpy(rows, r->rules, r->count * sizeof(*rows));
}

int net_rules_fill(const struct net_rules *r, int prefixes_fd, struct err **err)
{
	for (size_t i = 0; i < r->count; i++) {
		uint32_t first = first_of(r, i);
		int e;

		if (first != i)
			continue;
		e = bpf_map_update_elem(prefixes_fd, &r->prefixes[i], &first, BPF_ANY);
		if (e < 0)
			return err_errno(err, e, "fill the map of peers");
	}
	return 0;
}
