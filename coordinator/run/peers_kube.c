/* Peers of a cluster in Kubernetes: Services, pods, nodes, and who stands behind them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kubernetes/pods.h"
#include "run/peers_internal.h"

struct kube *resolving_kube(const struct resolving *w)
{
	return w->cluster->session ? w->cluster->session->kube : NULL;
}

const char *resolving_namespace(const struct resolving *w)
{
	return w->target->info->namespace ? w->target->info->namespace :
					    kube_config_of(resolving_kube(w))->default_namespace;
}

static bool is_targets(const struct resolving *w, const char *address)
{
	return strv_contains(w->target->info->addresses, address);
}

static bool in_ports(const struct resolving *w, uint16_t port)
{
	return !w->port_low || (port >= w->port_low && port <= w->port_high);
}

/* ---- Services in front of the peers ---- */

/* Who else is behind it: "db/main-2, the target itself"; NULL: nobody. Caller frees. */
static char *others_behind(const struct resolving *w, const struct service *s)
{
	_cleanup_strv_ char **seen = NULL;
	char *text = NULL;

	for (size_t i = 0; i < s->n_endpoints; i++) {
		const struct service_endpoint *e = &s->endpoints[i];
		const char *who = is_targets(w, e->address) ? "the target itself" :
				  e->pod		    ? e->pod :
							      e->address;
		char *longer = NULL;

		if (strv_contains(w->addresses, e->address) || strv_contains(seen, who))
			continue;
		strv_push(&seen, strdup(who));
		if (asprintf(&longer, "%s%s%s", text ? text : "", text ? ", " : "", who) < 0)
			abort();
		free(text);
		text = longer;
	}
	return text;
}

static bool leads_to_peers(const struct resolving *w, const struct service *s)
{
	for (size_t i = 0; w->addresses && w->addresses[i]; i++)
		if (service_leads_to(s, w->addresses[i]))
			return true;
	return false;
}

/* It follows a role: it leads to nobody but the target now, or, of this cluster's by its selector, to
 * nobody at all. Once roles change it may lead to a peer. */
static bool may_lead_to_peers(const struct resolving *w, const struct service *s)
{
	const char *slash = strrchr(w->cluster->name, '/');
	const char *cluster = slash ? slash + 1 : w->cluster->name;

	for (size_t i = 0; i < s->n_endpoints; i++)
		if (!is_targets(w, s->endpoints[i].address))
			return false;
	if (s->n_endpoints)
		return true;
	for (size_t i = 0; s->selector && s->selector[i]; i++)
		if (strcmp(strchr(s->selector[i], '=') + 1, cluster) == 0)
			return true;
	return false;
}

/* Of the Service's ports those that lead to ports that were asked for; by_name: the Service's own are
 * as good. */
static void add_service_ports(struct resolving *w, const struct service *s, const char *address,
	bool by_name)
{
	uint16_t low = w->port_low, high = w->port_high;

	for (size_t i = 0; i < s->n_ports; i++) {
		bool wanted = (by_name || !s->n_endpoints) && in_ports(w, s->ports[i].port);

		for (size_t k = 0; k < s->n_endpoints; k++)
			wanted = wanted ||
				 (strcmp(s->endpoints[k].port_name, s->ports[i].name) == 0 &&
					 in_ports(w, s->endpoints[k].port));
		if (!wanted)
			continue;
		w->port_low = w->port_high = s->ports[i].port;
		resolving_address(w, address);
		w->port_low = low;
		w->port_high = high;
	}
}

static void add_service_front(struct resolving *w, const struct service *s)
{
	for (size_t i = 0; s->addresses && s->addresses[i]; i++) {
		if (w->port_low)
			add_service_ports(w, s, s->addresses[i], false);
		else
			resolving_address(w, s->addresses[i]);
	}
}

int peers_add_services(struct resolving *w, const char *namespace, bool by_role, struct err **err)
{
	struct services all = {0};
	int r = services_read(resolving_kube(w), namespace, &all, err);

	for (size_t i = 0; r >= 0 && i < all.count; i++) {
		const struct service *s = &all.items[i];
		bool leads = leads_to_peers(w, s);
		size_t before = strv_length(w->out);
		_cleanup_free_ char *others = NULL;

		if (!leads && !(by_role && may_lead_to_peers(w, s)))
			continue;
		add_service_front(w, s);
		if (strv_length(w->out) == before)
			continue;
		others = others_behind(w, s);
		if (!leads)
			resolving_note(w,
				"peer %s: service %s/%s (%s) is cut too: it does not lead there now, "
				"but would once the roles have changed",
				w->name, s->namespace, s->name, s->addresses[0]);
		else if (others)
			resolving_note(w,
				"peer %s: service %s/%s (%s) is cut too, and it leads to %s besides: "
				"through this service the target reaches none of them",
				w->name, s->namespace, s->name, s->addresses[0], others);
	}
	services_done(&all);
	return r;
}

/* ---- pods ---- */

static void add_pod(struct resolving *w, const cJSON *pod)
{
	_cleanup_strv_ char **list = pod_addresses(pod);

	for (size_t i = 0; list && list[i]; i++) {
		if (strv_contains(w->addresses, list[i]) || is_targets(w, list[i]))
			continue;
		resolving_address(w, list[i]);
		strv_push(&w->addresses, strdup(list[i]));
		if (pod_on_host_network(pod))
			resolving_note(w,
				"peer %s: pod %s is on its node's network: all of that node's (%s) is cut",
				w->name, kube_name(pod), list[i]);
	}
}

int peers_add_pod(struct resolving *w, const char *namespace, const char *pod, struct err **err)
{
	_cleanup_free_ char *path = kube_path("/api/v1/namespaces/%s/pods/%s", namespace, pod);
	_cleanup_json_ cJSON *object = NULL;
	int r = kube_get(resolving_kube(w), path, &object, err);

	if (r < 0)
		return err_wrap(err, r, "peer \"%s\"", w->name);
	add_pod(w, object);
	return 0;
}

/* path: of a list of pods. Services are looked for in only, or, NULL, in the pods' namespaces. */
static int add_pods(struct resolving *w, const char *path, const char *only, struct err **err)
{
	_cleanup_json_ cJSON *pods = NULL;
	_cleanup_strv_ char **namespaces = NULL;
	const cJSON *pod;
	int r = kube_list(resolving_kube(w), path, &pods, err);

	if (r < 0)
		return err_wrap(err, r, "peer \"%s\"", w->name);
	cJSON_ArrayForEach(pod, pods)
	{
		if (pod_has_ended(pod))
			continue;
		add_pod(w, pod);
		if (only ? !strcmp(only, kube_namespace(pod)) && !namespaces :
			   !strv_contains(namespaces, kube_namespace(pod)))
			strv_push(&namespaces, strdup(kube_namespace(pod)));
	}
	for (size_t i = 0; r >= 0 && namespaces && namespaces[i]; i++)
		r = peers_add_services(w, namespaces[i], false, err);
	return r;
}

static int add_selected(struct resolving *w, const char *rest, struct err **err)
{
	const char *colon = strchr(rest, ':');
	_cleanup_free_ char *namespace = colon ? strndup(rest, (size_t)(colon - rest)) :
						 strdup(resolving_namespace(w));
	_cleanup_free_ char *path = kube_path("/api/v1/namespaces/%s/pods?labelSelector=%s", namespace,
		colon ? colon + 1 : rest);
	int r;

	free(w->label);
	if (asprintf(&w->label, "pods/%s", namespace) < 0)
		abort();
	r = add_pods(w, path, NULL, err);
	if (r >= 0 && !w->out)
		return err_set(err, -EINVAL, "peer \"%s\": no pod of namespace %s has these labels",
			w->name, namespace);
	return r;
}

/* ---- a Service by name ---- */

static int add_service_named(struct resolving *w, const char *namespace, const char *name,
	struct err **err)
{
	struct services all = {0};
	const struct service *s;
	int r = services_read(resolving_kube(w), namespace, &all, err);

	if (r < 0)
		return err_wrap(err, r, "peer \"%s\"", w->name);
	s = services_find(&all, name);
	if (!s)
		r = err_set(err, -ENOENT, "peer \"%s\": namespace %s has no service \"%s\"", w->name,
			namespace, name);
	else if (s->external_name)
		r = err_set(err, -EINVAL,
			"peer \"%s\": it is an alias for %s: give that name's addresses", w->name,
			s->external_name);
	for (size_t i = 0; r >= 0 && s->addresses && s->addresses[i]; i++)
		add_service_ports(w, s, s->addresses[i], true);
	for (size_t i = 0; r >= 0 && i < s->n_endpoints; i++) {
		const struct service_endpoint *e = &s->endpoints[i];

		if (!is_targets(w, e->address) && (!w->port_low || !e->port || in_ports(w, e->port)))
			resolving_address_ports(w, e->address, e->port, e->port);
	}
	services_done(&all);
	return r;
}

static int add_service(struct resolving *w, const char *rest, struct err **err)
{
	const char *slash = strchr(rest, '/'), *name = slash ? slash + 1 : rest;
	_cleanup_free_ char *namespace = slash ? strndup(rest, (size_t)(slash - rest)) :
						 strdup(resolving_namespace(w));
	int r;

	free(w->label);
	if (asprintf(&w->label, "service/%s/%s", namespace, name) < 0)
		abort();
	r = add_service_named(w, namespace, name, err);
	return r == -ENOENT ? err_wrap(err, -EINVAL, "%s", "services") : r;
}

/* ---- a node ---- */

static int add_node(struct resolving *w, const char *name, struct err **err)
{
	_cleanup_free_ char *path = kube_path("/api/v1/nodes/%s", name);
	_cleanup_free_ char *pods = kube_path("/api/v1/pods?fieldSelector=spec.nodeName%%3D%s", name);
	_cleanup_json_ cJSON *node = NULL;
	const cJSON *item;
	int r = kube_get(resolving_kube(w), path, &node, err);

	if (r < 0)
		return err_wrap(err, r == -ENOENT ? -EINVAL : r, "peer \"%s\"", w->name);
	free(w->label);
	if (asprintf(&w->label, "node/%s", name) < 0)
		abort();
	cJSON_ArrayForEach(item, kube_field(node, "status.addresses"))
	{
		const char *type = kube_text(item, "type"), *address = kube_text(item, "address");

		if (!type || !address || strstr(type, "IP") == NULL || is_targets(w, address))
			continue;
		resolving_address(w, address);
		strv_push(&w->addresses, strdup(address));
	}
	if (w->target->info->node && strcmp(w->target->info->node, name) == 0)
		resolving_note(w,
			"peer %s: the target runs on that node: the kubelet's probes of the pod are cut "
			"too, and it may restart the containers",
			w->name);
	return add_pods(w, pods, resolving_namespace(w), err);
}

int peers_add_kind(struct resolving *w, struct err **err)
{
	const char *rest = strchr(w->name, ':') + 1;

	if (!resolving_kube(w))
		return err_set(err, -EINVAL, "peer \"%s\": no Kubernetes here", w->name);
	if (strncmp(w->name, "service:", 8) == 0)
		return add_service(w, rest, err);
	if (strncmp(w->name, "node:", 5) == 0)
		return add_node(w, rest, err);
	return add_selected(w, rest, err);
}

/* ---- what Kubernetes itself is made of ---- */

int peers_add_operator(struct resolving *w, struct err **err)
{
	static const struct {
		const char *manager, *selector;
	} operators[] = {
		{"cnpg", "app.kubernetes.io/name=cloudnative-pg"},
		{"crunchy", "postgres-operator.crunchydata.com/control-plane=postgres-operator"},
		{"zalando", "name=postgres-operator"},
		{"zalando", "app.kubernetes.io/name=postgres-operator"},
		{"stackgres", "app=stackgres-operator"},
		{"stackgres", "app=StackGresOperator"},
	};
	const char *manager = w->cluster->manager->driver->name;

	if (!resolving_kube(w))
		return err_set(err, -EINVAL, "peer \"operator\": no Kubernetes here");
	for (size_t i = 0; i < ELEMENTS(operators); i++) {
		_cleanup_free_ char *path = kube_path("/api/v1/pods?labelSelector=%s",
			operators[i].selector);
		int r;

		if (strcmp(operators[i].manager, manager) != 0)
			continue;
		r = add_pods(w, path, NULL, err);
		if (r < 0)
			return r;
	}
	if (!w->out)
		return err_set(err, -EINVAL,
			"peer \"operator\": no pod of an operator of this cluster (manager %s) was "
			"found: name it as pods:NAMESPACE:SELECTOR",
			manager);
	return 0;
}

int peers_add_apiserver(struct resolving *w, struct err **err)
{
	return add_service_named(w, "default", "kubernetes", err);
}

/* NodeLocal DNSCache's own address (kubernetes.io, "Using NodeLocal DNSCache"). For IPv6 there is no such
 * custom: who has one chose it, and the instance's resolv.conf has it. */
#define NODE_LOCAL_DNS "169.254.20.10"

static bool is_loopback(const char *address)
{
	return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
}

/* Whom the target itself asks: a cache on its node, what its dnsConfig says. */
static void add_own_nameservers(struct resolving *w)
{
	char *const *list = w->target->info->nameservers;

	for (size_t i = 0; list && list[i]; i++)
		if (!is_loopback(list[i]))
			resolving_address_ports(w, list[i], 53, 53);
}

int peers_add_dns(struct resolving *w, struct err **err)
{
	static const struct {
		const char *namespace, *name;
	} known[] = {{"kube-system", "kube-dns"}, {"kube-system", "coredns"},
		{"openshift-dns", "dns-default"}};

	for (size_t i = 0; i < ELEMENTS(known); i++) {
		_cleanup_err_ struct err *cause = NULL;
		int r = add_service_named(w, known[i].namespace, known[i].name, &cause);

		if (r == -ENOENT)
			continue;
		if (r < 0)
			return err_set(err, r, "%s", err_text(cause));
		resolving_address_ports(w, NODE_LOCAL_DNS, 53, 53);
		add_own_nameservers(w);
		return 0;
	}
	return err_set(err, -ENOENT, "no name service was found");
}
