#include "run/ways.h"

#include <arpa/inet.h>
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

static const cJSON *named(const cJSON *list, const char *name)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list)
		if (strcmp(kube_name(item), name) == 0)
			return item;
	return NULL;
}

static uint16_t port_number(const cJSON *port, const char *member)
{
	const cJSON *n = json_get(port, member);

	return cJSON_IsNumber(n) && n->valuedouble >= 1 && n->valuedouble <= 65535 ?
		(uint16_t)n->valuedouble : 0;
}

static const char *port_name(const cJSON *port)
{
	const cJSON *name = json_get(port, "name");

	return cJSON_IsString(name) ? name->valuestring : "";
}

/* The Service's port behind which PostgreSQL is: the one that is named as the Endpoints' port of that
 * number; 0: none. */
static uint16_t service_port(const cJSON *service, const cJSON *endpoints, uint16_t wanted)
{
	const cJSON *ports = kube_field(service, "spec.ports"), *subsets, *subset, *p, *s;

	subsets = endpoints ? kube_field(endpoints, "subsets") : NULL;
	cJSON_ArrayForEach(subset, subsets)
		cJSON_ArrayForEach(p, json_get(subset, "ports"))
			cJSON_ArrayForEach(s, ports)
				if (port_number(p, "port") == wanted &&
					strcmp(port_name(p), port_name(s)) == 0)
					return port_number(s, "port");
	return 0;
}

/* How many of its addresses are among those; false: one is not. */
static bool count_among(const cJSON *endpoints, char *const *addresses, size_t *ret)
{
	const cJSON *subset, *address;
	size_t n = 0;

	cJSON_ArrayForEach(subset, kube_field(endpoints, "subsets"))
		cJSON_ArrayForEach(address, json_get(subset, "addresses"))
		{
			const cJSON *ip = json_get(address, "ip");

			if (!cJSON_IsString(ip) || !addresses || !strv_contains(addresses, ip->valuestring))
				return false;
			n++;
		}
	*ret = n;
	return n > 0;
}

static bool is_address(const char *text)
{
	unsigned char raw[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, text, raw) == 1 || inet_pton(AF_INET6, text, raw) == 1;
}

static bool take(const cJSON *service, uint16_t port, struct service_way *ret)
{
	const char *address = kube_text(service, "spec.clusterIP");

	/* "None": a headless one, which a name service alone leads to. */
	if (!port || !address || !is_address(address))
		return false;
	ret->name = strdup(kube_name(service));
	ret->address = strdup(address);
	ret->port = port;
	if (!ret->name || !ret->address)
		abort();
	return true;
}

static bool names_one_pod(const cJSON *service)
{
	const cJSON *selector = kube_field(service, "spec.selector");

	return json_get(selector, "statefulset.kubernetes.io/pod-name") ||
		json_get(selector, "apps.kubernetes.io/pod-index") ||
		json_get(selector, "cnpg.io/instanceName");
}

bool service_pick(const struct way_question *q, const char *hint, bool write, struct service_way *ret)
{
	const cJSON *service = hint ? named(q->services, hint) : NULL, *best = NULL;
	uint16_t best_port = 0;
	size_t most = 0;

	if (service) {
		uint16_t port = service_port(service, named(q->endpoints, hint), q->port);

		/* Nobody stands behind it now; its first port is PostgreSQL's with every operator. */
		if (!port)
			port = port_number(cJSON_GetArrayItem(kube_field(service, "spec.ports"), 0), "port");
		if (take(service, port, ret))
			return true;
	}
	cJSON_ArrayForEach(service, q->services)
	{
		const cJSON *endpoints = named(q->endpoints, kube_name(service));
		const char *address = kube_text(service, "spec.clusterIP");
		uint16_t port = service_port(service, endpoints, q->port);
		size_t n = 0;

		if (!port || !address || !is_address(address) || names_one_pod(service) ||
			!count_among(endpoints, write ? q->primary : q->replicas, &n) || n <= most)
			continue;
		best = service;
		best_port = port;
		most = n;
	}
	return best && take(best, best_port, ret);
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

static int list(struct kube *k, const char *namespace, const char *resource, cJSON **ret, struct err **err)
{
	_cleanup_free_ char *path = kube_path("/api/v1/namespaces/%s/%s", namespace, resource);
	int r = kube_list(k, path, ret, err);

	return r < 0 ? err_wrap(err, r, "%s of namespace %s", resource, namespace) : 0;
}

static int find_services(const struct cluster *c, const char *namespace, struct ways *w,
	struct err **err)
{
	const struct target *primary = cluster_primary(c);
	struct manager *m = c->manager;
	struct manager_services hints = {0};
	struct way_question q = {.port = c->targets.items[0].info->port};
	_cleanup_json_ cJSON *services = NULL, *endpoints = NULL;
	_cleanup_strv_ char **replicas = NULL;
	int r = list(c->session->kube, namespace, "services", &services, err);

	if (r >= 0)
		r = list(c->session->kube, namespace, "endpoints", &endpoints, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c->targets.count; i++)
		for (char **a = c->targets.items[i].info->addresses; a && *a; a++)
			if (&c->targets.items[i] != primary)
				strv_push(&replicas, strdup(*a));
	q.services = services;
	q.endpoints = endpoints;
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
