#include "session_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define CLOCK_ROUNDS 8
#define SOCKET_PATH_MAX sizeof(((struct sockaddr_un *)NULL)->sun_path)

void session_options_done(struct session_options *o)
{
	strv_free(o->agents);
	free(o->tls_ca);
	free(o->tls_cert);
	free(o->tls_key);
	free(o->tls_server_name);
	free(o->token_file);
	free(o->kubeconfig);
	free(o->context);
	free(o->agents_namespace);
}

static void add_link(struct session *s, struct agent_link *link)
{
	s->links = reallocarray(s->links, s->n_links + 1, sizeof(struct agent_link *));
	if (!s->links)
		abort();
	s->links[s->n_links++] = link;
}

/* The first failure of each, of its name or of its clock. */
static void keep_first(struct err **errors, struct agent_replies *replies)
{
	for (size_t i = 0; i < replies->count; i++)
		if (!errors[i])
			errors[i] = steal_ptr(replies->items[i].err);
	agent_replies_done(replies);
}

void session_add(struct session *s, const struct agent_address *addresses, size_t n,
	struct err **errors)
{
	_cleanup_free_ struct agent_link **links = calloc(n + 1, sizeof(struct agent_link *));
	struct agent_replies replies;
	size_t made = 0;

	if (!links)
		abort();
	for (; made < n; made++)
		if (agent_link_new(s->http, &addresses[made], &links[made], &errors[made]) < 0)
			break;
	/* Both are asked of all: one that does not answer costs its own time alone. */
	agent_ask_nodes(links, made, &replies);
	keep_first(errors, &replies);
	agent_ask_clocks(links, made, CLOCK_ROUNDS, &replies);
	keep_first(errors, &replies);
	for (size_t i = 0; i < made; i++)
		if (errors[i])
			agent_link_free(links[i]);
		else
			add_link(s, links[i]);
}

void session_add_missing(struct session *s, const struct agent_missing *m)
{
	s->missing = reallocarray(s->missing, s->n_missing + 1, sizeof(*s->missing));
	if (!s->missing)
		abort();
	s->missing[s->n_missing++] = (struct agent_missing){
		.node = strdup(m->node),
		.pod = m->pod ? strdup(m->pod) : NULL,
		.why = strdup(m->why),
		.never_ran = m->never_ran,
	};
}

/* The local agent: that which answers on the default socket, or one of our own. */
static int session_local(struct session *s, enum session_use use, struct err **err)
{
	struct agent_address address = {.unix_socket = (char *)AGENT_SOCKET_DEFAULT};
	_cleanup_err_ struct err *cause = NULL;
	bool answers = false, existing = use == SESSION_EXISTING || use == SESSION_STOP;
	int r;

	if (use == SESSION_ACT)
		r = local_agent_ensure(AGENT_SOCKET_DEFAULT, &s->local, err);
	else
		r = local_agent_answers(AGENT_SOCKET_DEFAULT, &answers, err);
	if (r >= 0 && use == SESSION_LOOK && !answers) {
		r = local_agent_private(&s->local, err);
		if (r >= 0)
			address.unix_socket = (char *)local_agent_socket(s->local);
	}
	if (r < 0)
		return r;
	if (use == SESSION_LOOK && !answers && getenv("KUBECONFIG"))
		fprintf(stderr, "pgjolt: note: this is about this host; for the Kubernetes cluster of "
				"$KUBECONFIG run `kubectl pgjolt ...`\n");
	if (existing && !answers)
		return err_set(err, -ESRCH,
			"no agent answers on %s: start `pgjolt-agent serve`, or name one with --agent",
			AGENT_SOCKET_DEFAULT);
	session_add(s, &address, 1, &cause);
	r = cause ? err_set(err, cause->code, "%s", cause->text) : 0;
	/* Followed from here on, an agent that another pgjolt started does not leave with it. */
	if (r >= 0 && use == SESSION_ACT)
		r = agent_link_follow(s->links[0], NULL, NULL, NULL, err);
	return r;
}

static int named_address(const struct session *s, const struct session_options *o, char *name,
	struct agent_address *ret, struct err **err)
{
	bool url = strncmp(name, "https://", 8) == 0;

	if (!url && name[0] != '/')
		return err_set(err, -EINVAL,
			"--agent %s: neither a socket's absolute path nor https://HOST:PORT", name);
	if (!url && strlen(name) >= SOCKET_PATH_MAX)
		return err_set(err, -EINVAL, "--agent: a socket's path of %zu bytes is too long, %zu at most",
			strlen(name), SOCKET_PATH_MAX - 1);
	if (!url) {
		*ret = (struct agent_address){.unix_socket = name};
		return 0;
	}
	*ret = (struct agent_address){.url = name};
	return session_identify(s, o, ret, err);
}

/* Those that were asked for have to answer; but what is to be stopped is stopped where that can be done. */
static int session_named(struct session *s, const struct session_options *o, enum session_use use,
	struct err **err)
{
	size_t n = strv_length(o->agents);
	_cleanup_free_ struct agent_address *addresses = calloc(n + 1, sizeof(*addresses));
	_cleanup_free_ struct err **errors = calloc(n + 1, sizeof(struct err *));
	int r = 0;

	if (!addresses || !errors)
		abort();
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = named_address(s, o, o->agents[i], &addresses[i], err);
	if (r < 0)
		return r;
	session_add(s, addresses, n, errors);
	for (size_t i = 0; i < n; i++) {
		const struct agent_missing m = {o->agents[i], NULL, (char *)err_text(errors[i]), false};

		if (errors[i] && use == SESSION_STOP && s->n_links)
			session_add_missing(s, &m);
		else if (errors[i] && r >= 0)
			r = err_set(err, errors[i]->code, "%s", errors[i]->text);
		err_free(errors[i]);
	}
	return r;
}

bool session_is_local(const struct session_options *o)
{
	return !o->agents && !session_wants_kube(o);
}

static int session_connect(struct session *s, const struct session_options *o, enum session_use use,
	struct err **err)
{
	bool kube = session_wants_kube(o);
	int r = kube ? session_open_kube(s, o, err) : 0;

	if (r < 0)
		return r;
	if (o->agents)
		return session_named(s, o, use, err);
	if (kube)
		return session_discover(s, o, use, err);
	r = session_local(s, use, err);
	return r == -ESRCH || r == -EACCES ? session_hint_kube(err, r) : r;
}

static int session_new(struct session **ret, struct err **err)
{
	_cleanup_(session_closep) struct session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	r = sd_event_new(&s->event);
	if (r < 0)
		return err_errno(err, r, "event loop");
	r = http_client_new(s->event, &s->http, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(s);
	return 0;
}

int session_open(const struct session_options *o, enum session_use use, struct session **ret,
	struct err **err)
{
	_cleanup_(session_closep) struct session *s = NULL;
	int r = session_new(&s, err);

	if (r >= 0)
		r = session_connect(s, o, use, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(s);
	return 0;
}

int session_open_api(const struct session_options *o, struct session **ret, struct err **err)
{
	_cleanup_(session_closep) struct session *s = NULL;
	int r = session_new(&s, err);

	if (r >= 0)
		r = session_open_kube(s, o, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(s);
	return 0;
}

int session_close(struct session *s)
{
	bool leaving = true;
	int status = 0;

	if (s->local && s->n_links && !s->hurry)
		agent_link_leave(s->links[0], &leaving, NULL);
	for (size_t i = 0; i < s->n_links; i++)
		agent_link_free(s->links[i]);
	free(s->links);
	for (size_t i = 0; i < s->n_missing; i++) {
		free(s->missing[i].node);
		free(s->missing[i].pod);
		free(s->missing[i].why);
	}
	free(s->missing);
	free(s->agents_namespace);
	kube_free(s->kube);
	http_client_free(s->http);
	sd_event_unref(s->event);
	if (s->hurry || !leaving)
		/* It watches us, and leaves when we have. */
		local_agent_detach(s->local);
	else
		status = local_agent_stop(s->local);
	free(s);
	if (status != -EINTR)
		return status;
	fprintf(stderr, "pgjolt: interrupted before the agent that was started had left: it reverts and "
			"leaves by itself; `pgjolt status` tells of it\n");
	return EXIT_STUCK;
}

void targets_done(struct targets *t)
{
	for (size_t i = 0; i < t->count; i++)
		instance_info_free(t->items[i].info);
	free(t->items);
	*t = (struct targets){0};
}

static int target_compare(const void *a, const void *b)
{
	const struct target *x = a, *y = b;

	return strcmp(x->info->name, y->info->name);
}

int session_targets(struct session *s, struct targets *ret, struct err **err)
{
	struct agent_replies replies;
	struct targets t = {0};
	size_t n = 0;
	int r;

	agent_ask_instances(s->links, s->n_links, &replies);
	r = agent_replies_check(&replies, err);
	for (size_t i = 0; i < replies.count; i++)
		n += replies.items[i].count;
	t.items = calloc(n + 1, sizeof(*t.items));
	if (!t.items)
		abort();
	for (size_t i = 0; r >= 0 && i < replies.count; i++)
		for (size_t k = 0; k < replies.items[i].count; k++)
			t.items[t.count++] = (struct target){replies.items[i].link,
				steal_ptr(replies.items[i].instances[k])};
	agent_replies_done(&replies);
	if (r < 0) {
		targets_done(&t);
		return r;
	}
	qsort(t.items, t.count, sizeof(*t.items), target_compare);
	*ret = t;
	return 0;
}

/* "lab, main" of all clusters; caller frees. */
static char *cluster_names(const struct targets *t, size_t *ret_count)
{
	_cleanup_strv_ char **names = NULL;
	char *text = strdup("");

	for (size_t i = 0; i < t->count; i++)
		if (!strv_contains(names, t->items[i].info->cluster))
			strv_push(&names, strdup(t->items[i].info->cluster));
	for (size_t i = 0; names && names[i]; i++) {
		char *longer = NULL;

		if (asprintf(&longer, "%s%s%s", text, i ? ", " : "", names[i]) < 0)
			abort();
		free(text);
		text = longer;
	}
	*ret_count = strv_length(names);
	return text;
}

/* In Kubernetes "main" will do where only one namespace has a cluster of that name. */
static const char *cluster_full_name(const struct targets *t, const char *name)
{
	const char *found = NULL;

	for (size_t i = 0; !strchr(name, '/') && i < t->count; i++) {
		const char *full = t->items[i].info->cluster, *slash = strrchr(full, '/');

		if (strcmp(full, name) == 0)
			return full;
		if (!slash || strcmp(slash + 1, name) != 0)
			continue;
		if (found && strcmp(found, full) != 0)
			return name;
		found = full;
	}
	return found ? found : name;
}

int session_cluster(struct session *s, const char *cluster, struct targets *ret, struct err **err)
{
	struct targets all = {0};
	_cleanup_free_ char *names = NULL, *full = NULL;
	size_t kept = 0, n_clusters = 0;
	int r = session_targets(s, &all, err);

	if (r < 0)
		return r;
	names = cluster_names(&all, &n_clusters);
	if (!all.count)
		r = err_set(err, -ESRCH, "no PostgreSQL runs where the agents look");
	else if (!cluster && n_clusters > 1)
		r = err_set(err, -EINVAL, "there are several clusters (%s): name one with --cluster",
			names);
	if (r < 0) {
		targets_done(&all);
		return r;
	}
	if (cluster) {
		full = strdup(cluster_full_name(&all, cluster));
		cluster = full;
	}
	for (size_t i = 0; i < all.count; i++) {
		if (!cluster || strcmp(all.items[i].info->cluster, cluster) == 0)
			all.items[kept++] = all.items[i];
		else
			instance_info_free(all.items[i].info);
	}
	all.count = kept;
	if (!kept) {
		targets_done(&all);
		return err_set(err, -ENOENT, "no cluster \"%s\"; there are: %s", cluster, names);
	}
	*ret = all;
	return 0;
}

int targets_find(const struct targets *t, const char *name, const struct target **ret,
	struct err **err)
{
	_cleanup_free_ char *names = strdup("");

	for (size_t i = 0; i < t->count; i++) {
		char *longer = NULL;

		if (strcmp(t->items[i].info->name, name) == 0) {
			*ret = &t->items[i];
			return 0;
		}
		if (asprintf(&longer, "%s%s%s", names, i ? ", " : "", t->items[i].info->name) < 0)
			abort();
		free(names);
		names = longer;
	}
	return err_set(err, -ENOENT, "no instance \"%s\"; there are: %s", name,
		t->count ? names : "none");
}
