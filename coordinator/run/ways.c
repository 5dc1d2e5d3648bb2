#include "run/ways.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kube/base64.h"

void ways_done(struct ways *w)
{
	free(w->write_host);
	free(w->read_host);
	free(w->write.name);
	free(w->write.address);
	free(w->read.name);
	free(w->read.address);
	pg_login_done(&w->login);
	*w = (struct ways){0};
}

/* ---- which Service ---- */

/* The Service's port behind which PostgreSQL is; 0: none, or nobody stands behind it. */
static uint16_t port_of(const struct service *s, uint16_t wanted)
{
	for (size_t i = 0; i < s->n_endpoints; i++)
		for (size_t k = 0; s->endpoints[i].port == wanted && k < s->n_ports; k++)
			if (strcmp(s->ports[k].name, s->endpoints[i].port_name) == 0)
				return s->ports[k].port;
	return 0;
}

/* How many of its endpoints are among those; 0: one is not. */
static size_t count_among(const struct service *s, char *const *addresses)
{
	for (size_t i = 0; i < s->n_endpoints; i++)
		if (!addresses || !strv_contains(addresses, s->endpoints[i].address))
			return 0;
	return s->n_endpoints;
}

static bool names_one_pod(const struct service *s)
{
	static const char *const keys[] = {"statefulset.kubernetes.io/pod-name=",
		"apps.kubernetes.io/pod-index=", "cnpg.io/instanceName="};

	for (size_t i = 0; s->selector && s->selector[i]; i++)
		for (size_t k = 0; k < ELEMENTS(keys); k++)
			if (strncmp(s->selector[i], keys[k], strlen(keys[k])) == 0)
				return true;
	return false;
}

static void take(const struct service *s, uint16_t port, struct service_way *ret)
{
	ret->name = strdup(s->name);
	ret->address = strdup(s->addresses[0]);
	ret->port = port;
	if (!ret->name || !ret->address)
		abort();
}

bool service_pick(const struct way_question *q, const char *hint, bool write, struct service_way *ret)
{
	const struct service *s = hint ? services_find(q->services, hint) : NULL, *best = NULL;
	size_t most = 0;

	/* Headless ones have no address: a name service alone leads there. */
	if (s && s->addresses && s->n_ports) {
		uint16_t port = port_of(s, q->port);

		/* The first port is PostgreSQL's with every operator. */
		take(s, port ? port : s->ports[0].port, ret);
		return true;
	}
	for (size_t i = 0; i < q->services->count; i++) {
		size_t n;

		s = &q->services->items[i];
		n = count_among(s, write ? q->primary : q->replicas);
		if (!s->addresses || !port_of(s, q->port) || names_one_pod(s) || n <= most)
			continue;
		best = s;
		most = n;
	}
	if (best)
		take(best, port_of(best, q->port), ret);
	return best != NULL;
}

/* ---- the login ---- */

static int secret_text(const cJSON *secret, const char *key, char **ret, struct err **err)
{
	const cJSON *item = json_get(json_get(secret, "data"), key);
	char *text = NULL;
	size_t length;
	int r;

	if (!cJSON_IsString(item))
		return 0;
	r = base64_decode(item->valuestring, &text, &length, NULL);
	if (r >= 0 && strlen(text) == length) {
		free(*ret);
		*ret = text;
		return 0;
	}
	if (r >= 0) {
		explicit_bzero(text, length);
		free(text);
	}
	/* Without the words of the decoder, which might quote what it could not read. */
	return err_set(err, -EINVAL, "data.%s is no text in Base64", key);
}

int login_from_secret(const cJSON *secret, struct pg_login *ret, struct err **err)
{
	struct pg_login l = {0};
	int r = secret_text(secret, "user", &l.user, err);

	if (r >= 0)
		r = secret_text(secret, "username", &l.user, err);
	if (r >= 0)
		r = secret_text(secret, "password", &l.password, err);
	if (r >= 0)
		r = secret_text(secret, "dbname", &l.database, err);
	/* CloudNativePG's superuser may use any: "*". */
	if (l.database && (!*l.database || strcmp(l.database, "*") == 0)) {
		free(l.database);
		l.database = NULL;
	}
	if (r >= 0 && (!l.user || !*l.user))
		r = err_set(err, -EINVAL, "it has neither data.username nor data.user");
	if (r < 0) {
		pg_login_done(&l);
		return r;
	}
	*ret = l;
	return 0;
}

static int read_login(struct kube *k, const char *name, struct pg_login *ret, struct err **err)
{
	const char *slash = strchr(name, '/');
	_cleanup_free_ char *namespace = NULL, *path = NULL;
	_cleanup_json_ cJSON *secret = NULL;
	int r;

	if (!slash || slash == name || !slash[1] || strchr(slash + 1, '/'))
		return err_set(err, -EINVAL, "--user-secret %s: expected NAMESPACE/NAME", name);
	if (!k)
		return err_set(err, -EINVAL, "--user-secret %s: there is no Kubernetes here", name);
	namespace = strndup(name, (size_t)(slash - name));
	path = kube_path("/api/v1/namespaces/%s/secrets/%s", namespace, slash + 1);
	r = kube_get(k, path, &secret, err);
	if (r >= 0)
		r = login_from_secret(secret, ret, err);
	return r < 0 ? err_wrap(err, r, "Secret %s", name) : 0;
}

/* ---- the cluster's ---- */

static char *host_of(const struct service_way *w, const char *namespace)
{
	char *host = NULL;

	if (w->name && asprintf(&host, "%s.%s.svc", w->name, namespace) < 0)
		abort();
	return host;
}

static int find_services(const struct cluster *c, const char *namespace, struct ways *w,
	struct err **err)
{
	const struct target *primary = cluster_primary(c);
	struct manager *m = c->manager;
	struct manager_services hints = {0};
	struct way_question q = {.port = c->targets.items[0].info->port};
	_cleanup_(services_done) struct services services = {0};
	_cleanup_strv_ char **replicas = NULL;
	int r = services_read(c->session->kube, namespace, &services, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < c->targets.count; i++)
		for (char **a = c->targets.items[i].info->addresses; a && *a; a++)
			if (&c->targets.items[i] != primary)
				strv_push(&replicas, strdup(*a));
	q.services = &services;
	q.primary = primary ? primary->info->addresses : NULL;
	q.replicas = replicas;
	if (m->ops->services)
		hints = m->ops->services(m);
	/* A readers' way beside a clients' way that is a list of pods would compare unlike things. */
	if (!service_pick(&q, hints.write, true, &w->write))
		return 0;
	service_pick(&q, hints.read, false, &w->read);
	w->write_host = host_of(&w->write, namespace);
	w->read_host = host_of(&w->read, namespace);
	return 0;
}

int ways_find(const struct cluster *c, const char *user_secret, struct ways *ret, struct err **err)
{
	const char *namespace = c->targets.count ? c->targets.items[0].info->namespace : NULL;
	struct ways w = {0};
	int r = 0;

	if (user_secret)
		r = read_login(c->session->kube, user_secret, &w.login, err);
	if (r >= 0 && c->session->kube && namespace)
		r = find_services(c, namespace, &w, err);
	if (r < 0) {
		ways_done(&w);
		return r;
	}
	*ret = w;
	return 0;
}
