#include "session_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLOCK_ROUNDS 8

void session_options_done(struct session_options *o)
{
	strv_free(o->agents);
	free(o->tls_ca);
	free(o->tls_cert);
	free(o->tls_key);
	free(o->tls_server_name);
	free(o->kubeconfig);
	free(o->context);
	free(o->agents_namespace);
}

int session_add(struct session *s, const struct agent_address *address, struct err **err)
{
	_cleanup_(node_info_freep) struct node_info *node = NULL;
	_cleanup_(agent_link_freep) struct agent_link *link = NULL;
	struct agent_link **links;
	int r = agent_link_new(s->http, address, &link, err);

	if (r >= 0)
		r = agent_link_node(link, &node, err);
	if (r >= 0)
		r = agent_link_measure_clock(link, CLOCK_ROUNDS, err);
	if (r < 0)
		return r;
	links = realloc(s->links, (s->n_links + 1) * sizeof(*links));
	if (!links)
		return err_set(err, -ENOMEM, "out of memory");
	s->links = links;
	s->links[s->n_links++] = steal_ptr(link);
	return 0;
}

/* The local agent: that which answers on the default socket, or one of our own. */
static int session_local(struct session *s, enum session_use use, struct err **err)
{
	struct agent_address address = {.unix_socket = (char *)AGENT_SOCKET_DEFAULT};
	bool answers = false;
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
	if (use == SESSION_EXISTING && !answers)
		return err_set(err, -ESRCH,
			"no agent answers on %s: start `pgjolt-agent serve`, or name one with --agent",
			AGENT_SOCKET_DEFAULT);
	r = session_add(s, &address, err);
	/* Followed from here on, an agent that another pgjolt started does not leave with it. */
	if (r >= 0 && use == SESSION_ACT)
		r = agent_link_follow(s->links[0], NULL, NULL, NULL, err);
	return r;
}

static int session_named(struct session *s, const struct session_options *o, struct err **err)
{
	const struct kube_config *config = s->kube ? kube_config_of(s->kube) : NULL;

	for (size_t i = 0; o->agents[i]; i++) {
		bool url = strncmp(o->agents[i], "https://", 8) == 0;
		struct agent_address address = {0};
		int r;

		if (!url && o->agents[i][0] != '/')
			return err_set(err, -EINVAL,
				"--agent %s: neither a socket's absolute path nor https://HOST:PORT",
				o->agents[i]);
		if (url)
			address = (struct agent_address){
				.url = o->agents[i],
				.tls = session_tls(o),
				.token_path = config ? config->token_path : NULL,
				.token = config ? config->token : NULL,
			};
		else
			address.unix_socket = o->agents[i];
		r = session_add(s, &address, err);
		if (r < 0)
			return r;
	}
	return 0;
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
		return session_named(s, o, err);
	if (kube)
		return session_discover(s, o, err);
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

	if (s->local && s->n_links)
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
	if (leaving)
		status = local_agent_stop(s->local);
	else
		local_agent_detach(s->local);
	free(s);
	return status;
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
	struct targets t = {0};

	for (size_t i = 0; i < s->n_links; i++) {
		struct instance_info **list = NULL;
		struct target *items;
		size_t n = 0;
		int r = agent_link_instances(s->links[i], &list, &n, err);

		if (r < 0) {
			targets_done(&t);
			return r;
		}
		items = realloc(t.items, (t.count + n + 1) * sizeof(*items));
		if (!items)
			abort();
		t.items = items;
		for (size_t k = 0; k < n; k++)
			t.items[t.count++] = (struct target){s->links[i], list[k]};
		free(list);
	}
	if (t.count)
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
