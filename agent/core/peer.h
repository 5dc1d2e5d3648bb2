/*
 * A peer of a network fault, in an agent's terms: an address range with ports. Text:
 *   [LABEL=]all | ADDRESS[/LENGTH][:PORT[-PORT]] | [IPV6[/LENGTH]][:PORT[-PORT]]
 * e.g. "10.0.0.7", "dcs=10.0.0.5/32:2379-2380", "[fd00::/64]:5432", "fd00::1", "all", "all:5432".
 * The label (letters, digits, ".-_/") is what evidence is counted under; default: the rest of
 * the text in its canonical form.
 * Host bits beyond the length are an error, as is length > 32 or 128.
 * "all" is 0.0.0.0/0 and ::/0 together (family 0).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <netinet/in.h>
#include "core/err.h"

struct peer {
	char *label;
	int family;			/* AF_INET, AF_INET6, or 0 for both ("all") */
	uint8_t address[16];		/* network order; IPv4 in the first 4 bytes */
	uint8_t prefix_length;
	uint16_t port_low, port_high;	/* host order; 0-65535 means any */
};

struct peer_list {
	struct peer *peers;
	size_t count;
};

void peer_done(struct peer *p);
void peer_list_done(struct peer_list *l);
int peer_parse(const char *text, struct peer *ret, struct err **err);
/* "5432" or "8000-8010"; 1..65535, low <= high. */
int port_range_parse(const char *text, uint16_t *ret_low, uint16_t *ret_high, struct err **err);
/* The coordinator's names: "replicas", "dcs:2379", "lab/pg2", "all"; [a-z0-9][A-Za-z0-9.-_/]* with a
 * letter, and ports. Also "service:NAMESPACE/NAME", "pods:[NAMESPACE:]SELECTOR", "node:NAME", each with
 * ":PORTS" behind, if any; these keep their kind. A '+' in SELECTOR is a comma. -EINVAL for what is no name (an address, say). Caller
 * frees *ret_name. */
int peer_name_parse(const char *text, char **ret_name, uint16_t *ret_low, uint16_t *ret_high,
	struct err **err);
/* Caller frees. Parses back to the same peer. */
char *peer_format(const struct peer *p);
int peer_list_parse(char *const *texts, struct peer_list *ret, struct err **err);
