#include "core/catalogue.h"

#include <string.h>
#include "core/catalogue/dns_params.h"

static const char *const mode_choices[] = {"nxdomain", "servfail", "timeout", "delay", NULL};

static const struct param_spec params[] = {
	{.name = "mode", .type = PARAM_ENUM, .required = true, .choices = mode_choices,
		.help = "nxdomain: the name does not exist. servfail: the server failed. timeout: no "
			"answer. delay: the query leaves later."},
	{.name = "delay", .type = PARAM_DURATION, .min = 1000000, .max = 60000000000,
		.help = "Mode delay: for how long a query is held."},
	{.name = "names", .type = PARAM_TEXTS,
		.help = "Only queries for these names and all below them (example.com is "
			"also db.example.com); at most 32. By default every query."},
};

static const struct fault_example examples[] = {
	{"dns --target lab/pg1 --for 30s --mode timeout",
		"No name server answers."},
	{"dns --target lab/pg1 --for 1m --mode delay --delay 3s",
		"A slow name server."},
	{"dns --target prod/pg-0 --for 30s --mode nxdomain --names etcd.svc.cluster.local",
		"The configuration store's names are gone, all others are there."},
};

static char fold(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_of_a_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

int dns_suffix_parse(const char *text, struct dns_suffix *ret, struct err **err)
{
	struct dns_suffix s = {0};
	const char *at = *text == '.' ? text + 1 : text;

	if (!*at)
		return err_set(err, -EINVAL, "names: \"%s\" is no name", text);
	while (*at) {
		size_t n = strcspn(at, ".");

		if (n == 0 || n > DNS_LABEL_MAX || s.length + n + 2 > DNS_NAME_MAX)
			return err_set(err, -EINVAL,
				"names: \"%.64s\": each label has 1 to 63 characters, a name 253 in all",
				text);
		s.wire[s.length++] = (uint8_t)n;
		for (size_t i = 0; i < n; i++) {
			char c = fold(at[i]);

			if (!is_of_a_name(c))
				return err_set(err, -EINVAL,
					"names: \"%.64s\": letters, digits, - and _ between dots; no "
					"patterns, as a name stands for all below it, too", text);
			s.wire[s.length++] = (uint8_t)c;
		}
		at += n;
		at += *at == '.';
	}
	s.wire[s.length++] = 0;
	*ret = s;
	return 0;
}

static int check(const struct params *p, struct err **err)
{
	bool held = params_number(p, "mode") == DNS_DELAY;
	char *const *names = params_texts(p, "names");
	size_t n = 0;

	if (held && !params_is_set(p, "delay"))
		return err_set(err, -EINVAL, "delay: mode delay needs it");
	if (!held && params_is_set(p, "delay"))
		return err_set(err, -EINVAL, "delay: is for mode delay");
	for (; names && names[n]; n++) {
		struct dns_suffix ignored;
		int r = dns_suffix_parse(names[n], &ignored, err);

		if (r < 0)
			return r;
		if (n == DNS_NAMES_MAX)
			return err_set(err, -EINVAL, "names: at most %u", DNS_NAMES_MAX);
	}
	if (params_is_set(p, "names") && n == 0)
		return err_set(err, -EINVAL, "names: none given");
	return 0;
}

const struct fault_spec fault_dns = {
	.name = "dns",
	.summary = "Fail or delay an instance's DNS queries",
	.description =
		"What the instance asks of name servers (port 53, UDP and TCP, over IPv4 and IPv6) "
		"is answered with an error, not at all, or late. Every process in the instance's "
		"network is meant: PostgreSQL, its manager, archive commands. All other "
		"traffic, other instances and, with names, other queries are not touched.\n\n"
		"UDP: nxdomain and servfail are answered in the name server's stead, with the "
		"query's own id and question; the query does not leave. The answer has no SOA record, so "
		"nobody may cache it. timeout drops the query, delay sends it later.\n\n"
		"TCP: nxdomain and servfail reset the connection, to the client as if by "
		"the server: without names as soon as it is begun, with names once such a "
		"name is asked for; the server keeps its end. timeout drops what would be reset, also "
		"when it is sent again; delay holds each segment with a query.\n\n"
		"Not touched: loopback (a resolver on 127.0.0.53 answers from its cache, but what it "
		"asks upstream leaves by an interface and is hit), /etc/hosts, answers that a "
		"process has cached, DNS over TLS or HTTPS, name servers on other ports, fragments and "
		"queries behind IPv6 extension headers. With names, a TCP query that is cut over "
		"several segments, or is not the first in its segment, is not recognised. A query "
		"that no rule of DNS can read is dropped or held only without names, and never "
		"answered.\n\n"
		"The evidence counts the queries that were hit, by name suffix, and what became of "
		"them.",
	.mechanism =
		"The delay line, as for net-shape: BPF programs (sched_cls) as tcx links on the "
		"instance's interfaces, in its own network namespace, redirect what goes to port 53 "
		"to a TAP there; the agent reads the query and drops it, holds it, sends it on, or "
		"writes an answer to a second TAP, from where it comes in at the interface. Firing "
		"is one write into a map, which holds the deadline after which everything passes by "
		"itself. Before Linux 6.6, without tcx, it is a filter (cls_bpf) of a clsact qdisc that leads on to "
		"the program by a table which the agent holds.",
	.needs =
		"Linux 6.6 for tcx (CONFIG_NET_XGRESS), before it CONFIG_NET_SCH_INGRESS and "
		"CONFIG_NET_CLS_BPF; CONFIG_BPF_SYSCALL, CONFIG_TUN and /dev/net/tun; CAP_BPF, "
		"CAP_NET_ADMIN, and CAP_SYS_ADMIN to enter the namespace. "
		"An instance in the host's network namespace is refused.",
	.leaves =
		"Nothing. The links and the TAPs live in the agent's descriptors: when it dies, "
		"killed with SIGKILL included, the kernel removes them at once and queries reach "
		"their server. Those that were held are lost; resolvers ask again.\n\n"
		"Without tcx the effect ends with the agent just so, as the kernel empties the table; but "
		"a killed agent leaves its filters on the interfaces. They pass everything, and are removed "
		"by its next start or pgjolt-agent revert-all from the journal; filters and qdiscs of others "
		"are not touched.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.check = check,
};
