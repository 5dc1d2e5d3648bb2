#include "core/peer.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/units.h"

#define PEER_TEXT_MAX  256
#define PEER_LABEL_MAX 128

void peer_done(struct peer *p)
{
	free(p->label);
	*p = (struct peer){0};
}

void peer_list_done(struct peer_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		peer_done(&l->peers[i]);
	free(l->peers);
	*l = (struct peer_list){0};
}

static bool is_label_char(char c)
{
	return isalnum((unsigned char)c) || (c && strchr(".-_/", c));
}

static int port_parse(const char *text, uint16_t *ret)
{
	uint64_t port;

	/* At most five digits, so that "000080" is not quietly 80. */
	if (strlen(text) > 5 || count_parse(text, 1, UINT16_MAX, &port, NULL) < 0)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}

int port_range_parse(const char *text, uint16_t *ret_low, uint16_t *ret_high, struct err **err)
{
	char copy[16];
	char *dash;
	uint16_t low, high;

	if (strlen(text) >= sizeof(copy))
		goto bad;
	strcpy(copy, text);
	dash = strchr(copy, '-');
	if (dash)
		*dash = '\0';
	if (port_parse(copy, &low) < 0 || port_parse(dash ? dash + 1 : copy, &high) < 0)
		goto bad;
	if (low > high)
		return err_set(err, -EINVAL, "ports \"%s\": %u is above %u", text, low, high);
	*ret_low = low;
	*ret_high = high;
	return 0;
bad:
	return err_set(err, -EINVAL,
		"\"%.64s\" is no port: a number from 1 to 65535, or two as 8000-8010", text);
}

/* Cuts text into the address (with length) and the ports, which are "" for none. */
static int split(char *text, char **ret_address, const char **ret_ports)
{
	char *end;

	*ret_ports = "";
	if (*text == '[') {
		end = strchr(text, ']');
		if (!end || (end[1] && end[1] != ':') || (end[1] == ':' && !end[2]))
			return -EINVAL;
		*ret_address = text + 1;
		if (end[1])
			*ret_ports = end + 2;
		*end = '\0';
		/* Brackets are IPv6's. */
		return strchr(*ret_address, ':') ? 0 : -EINVAL;
	}
	*ret_address = text;
	end = strchr(text, ':');
	if (!end || strchr(end + 1, ':'))
		return 0;
	if (!end[1])
		return -EINVAL;
	*ret_ports = end + 1;
	*end = '\0';
	return 0;
}

/* Is any bit set behind the first `length` ones? */
static bool has_host_bits(const uint8_t *address, size_t bytes, unsigned length)
{
	for (size_t i = 0; i < bytes * 8; i++)
		if (i >= length && address[i / 8] & (0x80 >> (i % 8)))
			return true;
	return false;
}

static int address_parse(char *text, const char *given, struct peer *ret, struct err **err)
{
	char *slash = strchr(text, '/');
	unsigned max;
	uint64_t length;

	if (strcmp(text, "all") == 0) {
		ret->family = 0;
		return 0;
	}
	if (slash)
		*slash++ = '\0';
	ret->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(ret->family, text, ret->address) != 1)
		return err_set(err, -EINVAL,
			"peer \"%.128s\": \"%.64s\" is no address; allowed: [LABEL=]all, "
			"ADDRESS[/LENGTH][:PORTS] or [IPV6[/LENGTH]]:PORTS", given, text);
	max = ret->family == AF_INET ? 32 : 128;
	length = max;
	if (slash && (strlen(slash) > 3 || count_parse(slash, 0, max, &length, NULL) < 0))
		return err_set(err, -EINVAL,
			"peer \"%.128s\": \"/%.16s\" is no prefix length from 0 to %u", given,
			slash, max);
	if (has_host_bits(ret->address, max / 8, (unsigned)length))
		return err_set(err, -EINVAL,
			"peer \"%.128s\": the address has bits beyond its length of %u", given,
			(unsigned)length);
	ret->prefix_length = (uint8_t)length;
	return 0;
}

static int label_parse(const char *text, size_t length, const char *given, char **ret,
	struct err **err)
{
	bool ok = length > 0 && length <= PEER_LABEL_MAX;

	for (size_t i = 0; ok && i < length; i++)
		ok = is_label_char(text[i]);
	if (!ok)
		return err_set(err, -EINVAL,
			"peer \"%.128s\": a label is 1 to %d letters, digits, \".\", \"-\", "
			"\"_\" or \"/\"", given, PEER_LABEL_MAX);
	*ret = strndup(text, length);
	return *ret ? 0 : err_errno(err, -ENOMEM, "peer");
}

/* Without the label. */
static char *address_format(const struct peer *p)
{
	bool ports = p->port_low != 0 || p->port_high != UINT16_MAX;
	char address[INET6_ADDRSTRLEN + 5] = "all", range[16] = "";
	bool brackets = ports && p->family == AF_INET6;
	unsigned max = p->family == AF_INET ? 32 : 128;
	char *text;

	if (p->family)
		inet_ntop(p->family, p->address, address, INET6_ADDRSTRLEN);
	if (p->family && p->prefix_length < max)
		sprintf(address + strlen(address), "/%u", p->prefix_length);
	if (ports && p->port_low == p->port_high)
		snprintf(range, sizeof(range), ":%u", p->port_low);
	else if (ports)
		snprintf(range, sizeof(range), ":%u-%u", p->port_low, p->port_high);
	if (asprintf(&text, "%s%s%s%s", brackets ? "[" : "", address, brackets ? "]" : "",
		range) < 0)
		return NULL;
	return text;
}

int peer_parse(const char *text, struct peer *ret, struct err **err)
{
	_cleanup_(peer_done) struct peer p = {.port_high = UINT16_MAX};
	_cleanup_free_ char *copy = NULL;
	const char *equals, *ports;
	char *address;
	int r;

	if (strlen(text) > PEER_TEXT_MAX)
		return err_set(err, -EINVAL, "peer \"%.64s...\" is longer than %d characters", text,
			PEER_TEXT_MAX);
	equals = strchr(text, '=');
	copy = strdup(equals ? equals + 1 : text);
	if (!copy)
		return err_errno(err, -ENOMEM, "peer");
	if (equals) {
		r = label_parse(text, (size_t)(equals - text), text, &p.label, err);
		if (r < 0)
			return r;
	}
	if (split(copy, &address, &ports) < 0)
		return err_set(err, -EINVAL,
			"peer \"%.128s\": allowed: [LABEL=]all, ADDRESS[/LENGTH][:PORTS] or "
			"[IPV6[/LENGTH]]:PORTS", text);
	r = address_parse(address, text, &p, err);
	if (r < 0)
		return r;
	if (*ports) {
		r = port_range_parse(ports, &p.port_low, &p.port_high, err);
		if (r < 0)
			return err_wrap(err, r, "peer \"%.128s\"", text);
	}
	if (!p.label)
		p.label = address_format(&p);
	if (!p.label)
		return err_errno(err, -ENOMEM, "peer");
	*ret = p;
	p.label = NULL;
	return 0;
}

char *peer_format(const struct peer *p)
{
	char *address = address_format(p), *text;
	int n;

	if (!address || !p->label || strcmp(p->label, address) == 0)
		return address;
	n = asprintf(&text, "%s=%s", p->label, address);
	free(address);
	return n < 0 ? NULL : text;
}

int peer_list_parse(char *const *texts, struct peer_list *ret, struct err **err)
{
	_cleanup_(peer_list_done) struct peer_list l = {0};
	size_t n = 0;
	int r;

	while (texts && texts[n])
		n++;
	l.peers = calloc(n ? n : 1, sizeof(*l.peers));
	if (!l.peers)
		return err_errno(err, -ENOMEM, "peers");
	for (; l.count < n; l.count++) {
		r = peer_parse(texts[l.count], &l.peers[l.count], err);
		if (r < 0)
			return r;
	}
	*ret = l;
	l = (struct peer_list){0};
	return 0;
}

/* "service:", "pods:", "node:"; 0: none of them. */
static size_t kind_length(const char *text)
{
	static const char *const kinds[] = {"service:", "pods:", "node:"};

	for (size_t i = 0; i < ELEMENTS(kinds); i++)
		if (strncmp(text, kinds[i], strlen(kinds[i])) == 0)
			return strlen(kinds[i]);
	return 0;
}

/* A name with a kind, ports cut off; 0: it is malformed. A selector (kubernetes.io, "Labels and
 * Selectors") has signs of its own, and at most the namespace's colon. */
static size_t kind_name_length(const char *text, size_t kind)
{
	const char *allowed = text[0] == 'p' ? ".-_/=!,+() :" : ".-_/";
	const char *ports = strrchr(text, ':') + 1;
	size_t length = strlen(text), colons = 0;

	if ((size_t)(ports - text) > kind && *ports && !ports[strspn(ports, "0123456789-")])
		length = (size_t)(ports - text) - 1;
	for (size_t i = kind; i < length; i++) {
		if (!isalnum((unsigned char)text[i]) && !strchr(allowed, text[i]))
			return 0;
		colons += text[i] == ':';
	}
	return length > kind && length <= PEER_TEXT_MAX && colons <= 1 &&
			       (isalnum((unsigned char)text[kind]) || text[kind] == '!') ?
		       length :
		       0;
}

int peer_name_parse(const char *text, char **ret_name, uint16_t *ret_low, uint16_t *ret_high,
	struct err **err)
{
	size_t kind = kind_length(text);
	size_t length = kind ? kind_name_length(text, kind) : strcspn(text, ":");
	uint16_t low = 0, high = UINT16_MAX;
	_cleanup_free_ char *name = NULL;
	bool ok, letter = false;
	int r;

	ok = length > 0 && (kind || length <= PEER_LABEL_MAX) && isalnum((unsigned char)*text);
	letter = kind > 0;
	for (size_t i = 0; ok && !kind && i < length; i++) {
		ok = is_label_char(text[i]);
		letter = letter || isalpha((unsigned char)text[i]);
	}
	if (!ok || !letter)
		return err_set(err, -EINVAL, "\"%.128s\" is no name of a peer", text);
	if (text[length] == ':') {
		r = port_range_parse(text + length + 1, &low, &high, err);
		if (r < 0)
			return err_wrap(err, r, "peer \"%.128s\"", text);
	}
	name = strndup(text, length);
	if (!name)
		return err_errno(err, -ENOMEM, "peer");
	/* In no label there is a '+', so it can stand for the comma, at which a list in one text is cut. */
	for (char *p = name; kind && *p; p++)
		if (*p == '+')
			*p = ',';
	*ret_name = steal_ptr(name);
	*ret_low = low;
	*ret_high = high;
	return 0;
}
