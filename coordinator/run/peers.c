#include "run/peers_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/peer.h"
#include "core/text.h"

void resolving_address(struct resolving *w, const char *address)
{
	bool v6 = strchr(address, ':') != NULL;
	char ports[16] = "";
	_cleanup_free_ char *text = NULL;

	if (w->port_low && w->port_low == w->port_high)
		snprintf(ports, sizeof(ports), ":%u", w->port_low);
	else if (w->port_low)
		snprintf(ports, sizeof(ports), ":%u-%u", w->port_low, w->port_high);
	if (asprintf(&text, v6 ? "%s=[%s]%s" : "%s=%s%s", w->label, address, ports) < 0)
		abort();
	if (!strv_contains(w->out, text))
		strv_push(&w->out, steal_ptr(text));
}

void resolving_address_ports(struct resolving *w, const char *address, uint16_t low, uint16_t high)
{
	bool asked = w->port_low != 0;

	if (!asked && !(low == 0 && high == UINT16_MAX)) {
		w->port_low = low;
		w->port_high = high;
	}
	resolving_address(w, address);
	if (!asked)
		w->port_low = w->port_high = 0;
}

void resolving_note(struct resolving *w, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	text = text_vformat(fmt, ap);
	va_end(ap);
	if (w->notes && !strv_contains(*w->notes, text))
		strv_push(w->notes, text);
	else
		free(text);
}

static int add_instance(struct resolving *w, const struct instance_info *i, struct err **err)
{
	/* What the agent sees of one on its node's network is the loopback alone. */
	if (resolving_kube(w) && i->host_network && i->namespace && i->pod)
		return peers_add_pod(w, i->namespace, i->pod, err);
	for (size_t k = 0; i->addresses && i->addresses[k]; k++) {
		resolving_address(w, i->addresses[k]);
		strv_push(&w->addresses, strdup(i->addresses[k]));
	}
	return 0;
}

/* With the Services in front of them. */
static int add_members_services(struct resolving *w, struct err **err)
{
	if (!resolving_kube(w) || !w->addresses)
		return 0;
	return peers_add_services(w, resolving_namespace(w), true, err);
}

static int add_primary(struct resolving *w, struct err **err)
{
	const struct target *primary = cluster_primary(w->cluster);
	int r;

	if (!primary)
		return err_set(err, -EINVAL, "peer \"primary\": the cluster has none now");
	if (primary == w->target)
		return err_set(err, -EINVAL, "peer \"primary\": that is the target itself (%s)",
			w->target->info->name);
	r = add_instance(w, primary->info, err);
	return r < 0 ? r : add_members_services(w, err);
}

static int add_others(struct resolving *w, bool replicas_only, struct err **err)
{
	const struct target *primary = cluster_primary(w->cluster);
	int r = 0;

	for (size_t i = 0; r >= 0 && i < w->cluster->targets.count; i++) {
		const struct target *t = &w->cluster->targets.items[i];

		if (strcmp(t->info->name, w->target->info->name) == 0)
			continue;
		if (replicas_only && primary && strcmp(t->info->name, primary->info->name) == 0)
			continue;
		r = add_instance(w, t->info, err);
	}
	return r < 0 ? r : add_members_services(w, err);
}

static int add_replicas(struct resolving *w, struct err **err)
{
	return add_others(w, true, err);
}

static int add_instances(struct resolving *w, struct err **err)
{
	return add_others(w, false, err);
}

void resolving_everybody(struct resolving *w, uint16_t port)
{
	char *text = NULL;
	uint16_t low = w->port_low ? w->port_low : port, high = w->port_low ? w->port_high : port;

	if (asprintf(&text, low ? "%s=all:%u-%u" : "%s=all", w->label, low, high) < 0)
		abort();
	strv_push(&w->out, text);
}

static int add_dcs(struct resolving *w, struct err **err)
{
	struct manager *m = w->cluster->manager;
	_cleanup_strv_ char **addresses = NULL;
	int r = m->ops->dcs_addresses(m, &addresses, err);

	if (r < 0)
		return r;
	if (!addresses || !addresses[0])
		return err_set(err, -EINVAL,
			"peer \"dcs\": manager %s names no configuration store; give its addresses",
			m->driver->name);
	for (size_t i = 0; addresses[i]; i++) {
		struct peer p = {0};
		char text[INET6_ADDRSTRLEN];

		r = peer_parse(addresses[i], &p, err);
		if (r < 0)
			return err_wrap(err, r, "peer \"dcs\"");
		if (!p.family) {
			resolving_everybody(w, p.port_low == p.port_high ? p.port_low : 0);
			peer_done(&p);
			continue;
		}
		inet_ntop(p.family, p.address, text, sizeof(text));
		/* The store alone, not all that its host serves, unless ports were asked for. */
		resolving_address_ports(w, text, p.port_low, p.port_high);
		peer_done(&p);
	}
	return 0;
}

static int add_apiserver(struct resolving *w, struct err **err)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");

	if (resolving_kube(w) && peers_add_apiserver(w, NULL) >= 0)
		return 0;
	if (!host)
		return err_set(err, -EINVAL,
			"peer \"apiserver\": no Kubernetes here (KUBERNETES_SERVICE_HOST is not set)");
	resolving_address(w, host);
	return 0;
}

static int add_dns(struct resolving *w, struct err **err)
{
	int r = resolving_kube(w) ? peers_add_dns(w, err) : -ENOENT;

	if (r != -ENOENT)
		return r;
	resolving_everybody(w, 53);
	return 0;
}

static int add_all(struct resolving *w, struct err **err)
{
	(void)err;
	resolving_everybody(w, 0);
	return 0;
}

/* Our own address as the target sees it: the probes are the clients that are measured. */
static int add_clients(struct resolving *w, struct err **err)
{
	for (size_t i = 0; w->target->info->addresses && w->target->info->addresses[i]; i++) {
		struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
			.ai_socktype = SOCK_DGRAM};
		struct addrinfo *to = NULL;
		struct sockaddr_storage own;
		socklen_t length = sizeof(own);
		char text[INET6_ADDRSTRLEN];
		_cleanup_close_ int fd = -1;

		if (getaddrinfo(w->target->info->addresses[i], "5432", &hints, &to))
			continue;
		fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		/* No packet leaves: connect() of a datagram socket only picks the route. */
		if (fd >= 0 && connect(fd, to->ai_addr, to->ai_addrlen) == 0 &&
			getsockname(fd, (struct sockaddr *)&own, &length) == 0 &&
			getnameinfo((struct sockaddr *)&own, length, text, sizeof(text), NULL, 0,
				NI_NUMERICHOST) == 0)
			resolving_address(w, text);
		freeaddrinfo(to);
	}
	if (!w->out)
		return err_set(err, -EINVAL, "peer \"clients\": no route from here to %s",
			w->target->info->name);
	return 0;
}

static const struct {
	const char *name;
	int (*add)(struct resolving *w, struct err **err);
} names_known[] = {
	{"primary", add_primary},   {"replicas", add_replicas}, {"instances", add_instances},
	{"dcs", add_dcs},	    {"apiserver", add_apiserver}, {"dns", add_dns},
	{"clients", add_clients},   {"all", add_all},	    {"operator", peers_add_operator},
};

const char *peers_name(size_t i)
{
	return i < ELEMENTS(names_known) ? names_known[i].name : NULL;
}

static int resolve_name(struct resolving *w, const char *name, struct err **err)
{
	const struct target *t;
	int r;

	if (strchr(name, ':'))
		return peers_add_kind(w, err);
	for (size_t i = 0; i < ELEMENTS(names_known); i++)
		if (strcmp(names_known[i].name, name) == 0)
			return names_known[i].add(w, err);
	if (strchr(name, '/') && targets_find(&w->cluster->targets, name, &t, err) < 0)
		return err_wrap(err, -EINVAL, "peer \"%s\"", name);
	if (!strchr(name, '/'))
		return err_set(err, -EINVAL,
			"peer \"%s\": not an address, an instance (CLUSTER/MEMBER) or one of primary, "
			"replicas, instances, dcs, apiserver, operator, dns, clients, all, "
			"service:NAMESPACE/NAME, pods:[NAMESPACE:]SELECTOR, node:NAME",
			name);
	if (strcmp(t->info->name, w->target->info->name) == 0)
		return err_set(err, -EINVAL, "peer \"%s\": that is the target itself", name);
	r = add_instance(w, t->info, err);
	return r < 0 ? r : add_members_services(w, err);
}

static int resolve_one(const struct cluster *c, const struct target *target, const char *text,
	char ***out, char ***notes, struct err **err)
{
	struct resolving w = {.cluster = c, .target = target, .notes = notes};
	_cleanup_free_ char *name = NULL;
	struct peer p = {0};
	int r;

	if (peer_name_parse(text, &name, &w.port_low, &w.port_high, NULL) < 0) {
		r = peer_parse(text, &p, err);
		peer_done(&p);
		if (r < 0)
			return r;
		strv_push(out, strdup(text));
		return 0;
	}
	if (w.port_low == 0 && w.port_high == 65535)
		w.port_high = 0;
	w.name = name;
	w.label = strdup(name);
	r = resolve_name(&w, name, err);
	if (r >= 0 && !w.out)
		r = err_set(err, -EINVAL, "peer \"%s\" resolves to nothing: %s", name,
			strcmp(name, "replicas") == 0 || strcmp(name, "instances") == 0 ?
				"the cluster has no other member" :
				"it has no address");
	for (size_t i = 0; r >= 0 && w.out[i]; i++)
		strv_push(out, strdup(w.out[i]));
	strv_free(w.out);
	strv_free(w.addresses);
	free(w.label);
	return r;
}

int peers_resolve_noted(const struct cluster *c, const struct target *target, char *const *names,
	char ***ret, char ***ret_notes, struct err **err)
{
	_cleanup_strv_ char **out = NULL, **notes = NULL;

	for (size_t i = 0; names && names[i]; i++) {
		int r = resolve_one(c, target, names[i], &out, &notes, err);

		if (r < 0)
			return r;
	}
	*ret = steal_ptr(out);
	if (ret_notes)
		*ret_notes = steal_ptr(notes);
	return 0;
}

int peers_resolve(const struct cluster *c, const struct target *target, char *const *names,
	char ***ret, struct err **err)
{
	return peers_resolve_noted(c, target, names, ret, NULL, err);
}
