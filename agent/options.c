#include "options.h"

#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include "api/authorize.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"
#include "core/units.h"
#include "kube/stop_switch.h"

#define SOCKET_PATH  "/run/pgjolt/agent.sock"
#define JOURNAL_PATH "/var/lib/pgjolt/journal"

enum {
	OPT_HELP = 1, OPT_SOCKET, OPT_JOURNAL, OPT_NODE_NAME, OPT_LISTEN, OPT_TLS_CERT, OPT_TLS_KEY,
	OPT_TLS_CA, OPT_TLS_ALLOW, OPT_TLS_ALLOW_METRICS, OPT_MAX_DURATION, OPT_MAX_CONCURRENT, OPT_MAX_INSTANCES,
	OPT_ALLOW_FAULT, OPT_ALLOW_TARGET, OPT_LOG_LEVEL, OPT_OWNER_PID, OPT_READY_FD, OPT_HALT_AT,
	OPT_WITHOUT_TCX, OPT_JSON, OPT_DISCARD_BAD, OPT_KUBERNETES, OPT_KUBECONFIG, OPT_NAMESPACE,
	OPT_AUTHORIZE, OPT_AUTHORIZE_CACHE, OPT_REQUIRE_LABEL, OPT_STOP_CONFIG_MAP, OPT_MAX_SHARE,
	OPT_TOKEN_AUDIENCE,
};

#define SERVE  (1U << VERB_SERVE)
#define PROBE  (1U << VERB_PROBE)
#define REVERT (1U << VERB_REVERT_ALL)
#define ALL    (SERVE | PROBE | REVERT | 1U << VERB_VERSION)

/* clang-format off */
static const struct verb_info {
	const char *name, *summary;
} verbs[VERB_MAX] = {
	[VERB_SERVE] = {"serve", "run the agent of this node until SIGTERM; reverts every fault first"},
	[VERB_PROBE] = {"probe", "try which faults this node can inject, and by which mechanism"},
	[VERB_REVERT_ALL] = {"revert-all", "undo what the journal of a dead agent holds"},
	[VERB_VERSION] = {"version", "print the version"},
};

static const struct option_info {
	const char *name, *argument, *help;
	int id;
	unsigned verbs;
} table[] = {
	{"socket", "PATH", "unix socket to listen on (" SOCKET_PATH ")", OPT_SOCKET, SERVE},
	{"journal", "DIR", "folder of the journal (" JOURNAL_PATH ")", OPT_JOURNAL, SERVE | REVERT},
	{"node-name", "NAME", "name of this node (its host name)", OPT_NODE_NAME, SERVE | PROBE},
	{"listen", "ADDRESS:PORT", "serve mutual TLS there too", OPT_LISTEN, SERVE},
	{"tls-cert", "FILE", "certificate of the agent, PEM", OPT_TLS_CERT, SERVE},
	{"tls-key", "FILE", "its key, PEM", OPT_TLS_KEY, SERVE},
	{"tls-ca", "FILE", "authority whose clients may call, PEM", OPT_TLS_CA, SERVE},
	{"tls-allow", "NAME", "only clients of this name (CN or SAN); may be repeated", OPT_TLS_ALLOW,
	 SERVE},
	{"tls-allow-metrics", "NAME", "clients of this name may read /metrics and /healthz alone; may be repeated",
	 OPT_TLS_ALLOW_METRICS, SERVE},
	{"max-duration", "TIME", "longest fault that is taken (1h)", OPT_MAX_DURATION, SERVE},
	{"max-concurrent", "N", "faults at once on this node (32)", OPT_MAX_CONCURRENT, SERVE},
	{"max-instances", "N", "instances of one cluster with faults at once (no limit)",
	 OPT_MAX_INSTANCES, SERVE},
	{"max-share", "PERCENT", "share of a cluster's instances with faults at once, one at least (100%); of all "
	 "nodes with --authorize kubernetes, else of this one", OPT_MAX_SHARE, SERVE},
	{"allow-fault", "FAULT", "take only this fault; may be repeated", OPT_ALLOW_FAULT, SERVE},
	{"allow-target", "GLOB", "only instances or clusters so named; may be repeated",
	 OPT_ALLOW_TARGET, SERVE},
	{"authorize", "HOW", "who may call on TCP: certificate (the default: any that is let in), or "
	 "kubernetes: the API server is asked about his token", OPT_AUTHORIZE, SERVE},
	{"authorize-cache", "TIME", "how long its answer serves (30s)", OPT_AUTHORIZE_CACHE, SERVE},
	{"token-audience", "NAME", "whom his token must be for (the API server)", OPT_TOKEN_AUDIENCE, SERVE},
	{"require-label", "YES|NO", "only namespaces with pgjolt.io/enabled=true (with --authorize "
	 "kubernetes yes, else no)", OPT_REQUIRE_LABEL, SERVE},
	{"stop-configmap", "NAMESPACE/NAME", "the kill switch; none: without (with Kubernetes "
	 STOP_SWITCH_NAME " in the agents' namespace)", OPT_STOP_CONFIG_MAP, SERVE},
	{"kubernetes", NULL, "ask the API server for pods' labels and owners, and the kill switch",
	 OPT_KUBERNETES, SERVE},
	{"kubeconfig", "FILE", "how to reach it (the pod's service account)", OPT_KUBECONFIG, SERVE},
	{"namespace", "NAME", "the agents' namespace (the service account's; with --kubeconfig "
	 KUBERNETES_NAMESPACE ")", OPT_NAMESPACE, SERVE},
	{"owner-pid", "PID", "revert all and leave when this process ends", OPT_OWNER_PID, SERVE},
	{"ready-fd", "FD", "write \"ready\" there once the agent listens", OPT_READY_FD, SERVE},
	{"halt-at", "POINT", "for crash tests: stop (SIGSTOP) at FAULT:POINT or *:POINT", OPT_HALT_AT,
	 SERVE},
	{"without-tcx", NULL, "for tests: network faults as on a kernel before 6.6", OPT_WITHOUT_TCX,
	 SERVE | PROBE},
	{"json", NULL, "print one JSON document", OPT_JSON, PROBE},
	{"discard-bad", NULL, "also remove entries that cannot be read or understood", OPT_DISCARD_BAD,
	 REVERT},
	{"log-level", "LEVEL", "error, warning, info (the default) or debug", OPT_LOG_LEVEL,
	 SERVE | PROBE | REVERT},
	{"help", NULL, "print this", OPT_HELP, ALL},
};
/* clang-format on */

void options_done(struct options *o)
{
	agent_config_done(&o->config);
}

void options_help(const struct options *o)
{
	char left[64];

	if (!o->has_verb) {
		printf("Usage: pgjolt-agent VERB [OPTION...]\n\n"
		       "Injects faults into the PostgreSQL instances of this node.\n\nVerbs:\n");
		for (size_t v = 0; v < VERB_MAX; v++)
			printf("  %-12s%s\n", verbs[v].name, verbs[v].summary);
		printf("\n'pgjolt-agent VERB --help' lists the options of a verb.\n"
		       "Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 5 something could not be "
		       "reverted.\n");
		return;
	}
	printf("Usage: pgjolt-agent %s [OPTION...]\n\n%s\n\nOptions:\n", verbs[o->verb].name,
		verbs[o->verb].summary);
	for (size_t i = 0; i < ELEMENTS(table); i++) {
		if (!(table[i].verbs & 1U << o->verb))
			continue;
		snprintf(left, sizeof(left), "--%s%s%s", table[i].name, table[i].argument ? " " : "",
			table[i].argument ? table[i].argument : "");
		printf("  %-33s%s\n", left, table[i].help);
	}
}

static int set_text(char **field, const char *value, struct err **err)
{
	if (!*value)
		return err_set(err, EINVAL, "must not be empty");
	free(*field);
	*field = strdup(value);
	return *field ? 0 : err_set(err, ENOMEM, "no memory");
}

static int push_text(char ***list, const char *value, struct err **err)
{
	char *copy = NULL;
	int r;

	r = set_text(&copy, value, err);
	if (r >= 0)
		strv_push(list, copy);
	return r;
}

static int set_count(const char *value, uint64_t min, uint64_t max, unsigned *ret, struct err **err)
{
	uint64_t n;
	int r;

	r = count_parse(value, min, max, &n, err);
	if (r >= 0)
		*ret = (unsigned)n;
	return r;
}

static int set_max_duration(struct agent_config *c, const char *value, struct err **err)
{
	uint64_t ns;
	int r;

	r = duration_parse(value, &ns, err);
	if (r < 0)
		return r;
	if (ns < NS_PER_MS)
		return err_set(err, EINVAL, "must be at least 1ms");
	c->limits.duration_max_ms = ns / NS_PER_MS;
	return 0;
}

static int set_max_share(struct agent_config *c, const char *value, struct err **err)
{
	uint32_t ppm;
	int r;

	r = percent_parse(value, &ppm, err);
	if (r >= 0)
		c->limits.share_max_ppm = ppm;
	return r;
}

static int set_ready_fd(struct agent_config *c, const char *value, struct err **err)
{
	unsigned fd;
	int r;

	r = set_count(value, 3, 65535, &fd, err);
	if (r < 0)
		return r;
	if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_errno(err, errno, "descriptor %u", fd);
	c->ready_fd = (int)fd;
	return 0;
}

static int set_halt_at(struct agent_config *c, const char *value, struct err **err)
{
	const char *colon = strchr(value, ':');
	const struct fault_spec *spec;
	char name[64];
	int r;

	if (!colon || colon == value || !colon[1])
		return err_set(err, EINVAL, "'%s': expected FAULT:POINT or *:POINT", value);
	if (strncmp(value, "*:", 2) != 0) {
		snprintf(name, sizeof(name), "%.*s", (int)(colon - value), value);
		r = catalogue_find(name, &spec, err);
		if (r < 0)
			return r;
	}
	return set_text(&c->halt_at, value, err);
}

static int set_log_level(const char *value, struct err **err)
{
	enum log_level level;

	if (log_level_from_string(value, &level) < 0)
		return err_set(err, EINVAL, "'%s': expected error, warning, info or debug", value);
	log_set_level(level);
	return 0;
}

static int allow_fault(struct agent_config *c, const char *value, struct err **err)
{
	const struct fault_spec *spec;
	int r;

	r = catalogue_find(value, &spec, err);
	return r < 0 ? r : push_text(&c->limits.faults_allowed, value, err);
}

static int set_authorize(struct kubernetes_config *k, const char *value, struct err **err)
{
	k->authorize = strcmp(value, "kubernetes") == 0;
	if (!k->authorize && strcmp(value, "certificate") != 0)
		return err_set(err, EINVAL, "'%s': expected certificate or kubernetes", value);
	k->enabled = k->enabled || k->authorize;
	return 0;
}

static int set_authorize_cache(struct kubernetes_config *k, const char *value, struct err **err)
{
	uint64_t ns;
	int r;

	r = duration_parse(value, &ns, err);
	if (r < 0)
		return r;
	if (ns < NS_PER_S || ns > 3600 * NS_PER_S)
		return err_set(err, EINVAL, "'%s': expected 1s to 1h", value);
	k->authorize_cache_ms = ns / NS_PER_MS;
	return 0;
}

static int set_require_label(struct options *o, const char *value, struct err **err)
{
	bool yes = strcmp(value, "yes") == 0;

	if (!yes && strcmp(value, "no") != 0)
		return err_set(err, EINVAL, "'%s': expected yes or no", value);
	o->has_require_label = true;
	o->config.kubernetes.require_label = yes;
	o->config.kubernetes.enabled = o->config.kubernetes.enabled || yes;
	return 0;
}

/* "none", or two names of RFC 1123. */
static int set_stop_config_map(struct options *o, const char *value, struct err **err)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-.";
	const char *slash = strchr(value, '/');

	o->config.kubernetes.without_stop = strcmp(value, "none") == 0;
	if (o->config.kubernetes.without_stop)
		return 0;
	if (!slash || slash == value || !slash[1] ||
	    value + strspn(value, letters) != slash || slash[1 + strspn(slash + 1, letters)])
		return err_set(err, EINVAL, "'%s': expected NAMESPACE/NAME or none", value);
	o->config.kubernetes.enabled = true;
	return set_text(&o->config.kubernetes.stop_config_map, value, err);
}

static int kubernetes_option_apply(struct options *o, int id, const char *value, struct err **err)
{
	struct kubernetes_config *k = &o->config.kubernetes;

	switch (id) {
	case OPT_KUBERNETES:
		k->enabled = true;
		return 0;
	case OPT_KUBECONFIG:
		k->enabled = true;
		return set_text(&k->kubeconfig, value, err);
	case OPT_NAMESPACE:
		return set_text(&k->namespace, value, err);
	case OPT_AUTHORIZE:
		return set_authorize(k, value, err);
	case OPT_AUTHORIZE_CACHE:
		return set_authorize_cache(k, value, err);
	case OPT_TOKEN_AUDIENCE:
		return set_text(&k->token_audience, value, err);
	case OPT_REQUIRE_LABEL:
		return set_require_label(o, value, err);
	case OPT_STOP_CONFIG_MAP:
		return set_stop_config_map(o, value, err);
	default:
		return err_set(err, EINVAL, "unknown option");
	}
}

static int option_apply(struct options *o, int id, const char *value, struct err **err)
{
	struct agent_config *c = &o->config;
	unsigned pid;
	int r;

	switch (id) {
	case OPT_HELP:
		o->help = true;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case OPT_DISCARD_BAD:
		o->discard_bad = true;
		return 0;
	case OPT_SOCKET:
		return set_text(&c->socket_path, value, err);
	case OPT_JOURNAL:
		return set_text(&c->journal_path, value, err);
	case OPT_NODE_NAME:
		return set_text(&c->node_name, value, err);
	case OPT_LISTEN:
		return set_text(&c->listen, value, err);
	case OPT_TLS_CERT:
		return set_text(&c->tls_cert, value, err);
	case OPT_TLS_KEY:
		return set_text(&c->tls_key, value, err);
	case OPT_TLS_CA:
		return set_text(&c->tls_ca, value, err);
	case OPT_TLS_ALLOW:
		return push_text(&c->tls_allowed_names, value, err);
	case OPT_TLS_ALLOW_METRICS:
		return push_text(&c->tls_metrics_names, value, err);
	case OPT_MAX_DURATION:
		return set_max_duration(c, value, err);
	case OPT_MAX_CONCURRENT:
		return set_count(value, 1, 1000, &c->limits.concurrent_max, err);
	case OPT_MAX_INSTANCES:
		return set_count(value, 1, 1000, &c->limits.instances_of_cluster_max, err);
	case OPT_MAX_SHARE:
		return set_max_share(c, value, err);
	case OPT_ALLOW_FAULT:
		return allow_fault(c, value, err);
	case OPT_ALLOW_TARGET:
		return push_text(&c->limits.clusters_allowed, value, err);
	case OPT_OWNER_PID:
		r = set_count(value, 2, 1U << 22, &pid, err);
		if (r >= 0)
			c->owner = (pid_t)pid;
		return r;
	case OPT_READY_FD:
		return set_ready_fd(c, value, err);
	case OPT_HALT_AT:
		return set_halt_at(c, value, err);
	case OPT_WITHOUT_TCX:
		c->without_tcx = true;
		return 0;
	case OPT_LOG_LEVEL:
		return set_log_level(value, err);
	default:
		return kubernetes_option_apply(o, id, value, err);
	}
}

static int find_verb(const char *name, enum verb *ret, struct err **err)
{
	for (size_t v = 0; v < VERB_MAX; v++) {
		if (strcmp(verbs[v].name, name) == 0) {
			*ret = (enum verb)v;
			return 0;
		}
	}
	return err_set(err, EINVAL, "'%s': expected serve, probe, revert-all or version", name);
}

/* getopt(3) has left in optopt the letter of -x, the id of a flag that was given a value, or 0. */
static int refuse_option(const char *given, const char *verb, struct err **err)
{
	if (optopt > ' ')
		return err_set(err, EINVAL, "'-%c' is no option of %s", optopt, verb);
	if (optopt)
		return err_set(err, EINVAL, "'%s': this option takes no value", given);
	return err_set(err, EINVAL, "'%s' is no option of %s", given, verb);
}

static int parse_long(int argc, char **argv, struct options *o, struct err **err)
{
	struct option longs[ELEMENTS(table) + 1] = {0};
	size_t n = 0;
	int id, index = 0, r;

	for (size_t i = 0; i < ELEMENTS(table); i++)
		if (table[i].verbs & 1U << o->verb)
			longs[n++] = (struct option){table[i].name,
				table[i].argument ? required_argument : no_argument, NULL, table[i].id};
	opterr = 0;
	optind = 1;
	while ((id = getopt_long(argc, argv, ":h", longs, &index)) != -1) {
		if (id == ':')
			return err_set(err, EINVAL, "%s needs a value", argv[optind - 1]);
		if (id == '?')
			return refuse_option(argv[optind - 1], verbs[o->verb].name, err);
		r = option_apply(o, id == 'h' ? OPT_HELP : id, optarg, err);
		if (r < 0)
			return err_wrap(err, r, "--%s", longs[index].name);
	}
	if (optind < argc)
		return err_set(err, EINVAL, "'%s': %s takes no argument but its options", argv[optind],
			verbs[o->verb].name);
	return 0;
}

/* What is on with Kubernetes unless it was switched off. */
static void complete_kubernetes(struct options *o)
{
	struct kubernetes_config *k = &o->config.kubernetes;

	if (!k->authorize_cache_ms)
		k->authorize_cache_ms = AUTHORIZE_CACHE_MS;
	if (!o->has_require_label)
		k->require_label = k->authorize;
}

static int check_together(const struct agent_config *c, struct err **err)
{
	bool all = c->tls_cert && c->tls_key && c->tls_ca;
	bool any = c->tls_cert || c->tls_key || c->tls_ca || c->tls_allowed_names || c->tls_metrics_names;

	for (char **name = c->tls_metrics_names; name && *name; name++)
		if (strv_contains(c->tls_allowed_names, *name))
			return err_set(err, EINVAL, "'%s' is named by --tls-allow and by --tls-allow-metrics", *name);
	if (c->listen && !all)
		return err_set(err, EINVAL,
			"--listen needs --tls-cert, --tls-key and --tls-ca: there is no TCP without TLS");
	if (any && !c->listen)
		return err_set(err, EINVAL, "--tls-* options are of no use without --listen");
	if (c->kubernetes.authorize && !c->listen)
		return err_set(err, EINVAL, "--authorize kubernetes is of no use without --listen");
	if (c->kubernetes.token_audience && !c->kubernetes.authorize)
		return err_set(err, EINVAL, "--token-audience is of no use without --authorize kubernetes");
	return 0;
}

int options_parse(int argc, char **argv, struct options *ret, struct err **err)
{
	int r;

	*ret = (struct options){
		.config = {
			.socket_path = strdup(SOCKET_PATH),
			.journal_path = strdup(JOURNAL_PATH),
			.ready_fd = -1,
			.limits = {
				.duration_max_ms = EXPERIMENT_DURATION_MAX_MS,
				.lease_max_ms = EXPERIMENT_LEASE_MAX_MS,
				.concurrent_max = EXPERIMENT_CONCURRENT_MAX,
				.share_max_ppm = EXPERIMENT_SHARE_ALL,
			},
		},
	};
	if (!ret->config.socket_path || !ret->config.journal_path)
		return err_set(err, ENOMEM, "no memory");
	if (argc < 2)
		return err_set(err, EINVAL, "a verb is missing: serve, probe, revert-all or version");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		ret->help = true;
		return 0;
	}
	r = find_verb(strcmp(argv[1], "--version") == 0 ? "version" : argv[1], &ret->verb, err);
	if (r < 0)
		return r;
	ret->has_verb = true;
	r = parse_long(argc - 1, argv + 1, ret, err);
	if (r < 0 || ret->help)
		return r;
	complete_kubernetes(ret);
	return check_together(&ret->config, err);
}
