#include "run/peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/peer.h"

struct resolving {
	const struct cluster *cluster;
	const struct target *target;
	const char *label;
	uint16_t port_low, port_high;	/* 0, 0: any */
	char **out;
};

static void add_address(struct resolving *w, const char *address)
{
	bool v6 = strchr(address, ':') != NULL;
	char ports[16] = "";
	char *text = NULL;

	if (w->port_low && w->port_low == w->port_high)
		snprintf(ports, sizeof(ports), ":%u", w->port_low);
	else if (w->port_low)
		snprintf(ports, sizeof(ports), ":%u-%u", w->port_low, w->port_high);
	if (asprintf(&text, v6 ? "%s=[%s]%s" : "%s=%s%s", w->label, address, ports) < 0)
		abort();
	strv_push(&w->out, text);
}

static void add_instance(struct resolving *w, const struct instance_info *i)
{
	for (size_t k = 0; i->addresses && i->addresses[k]; k++)
		add_address(w, i->addresses[k]);
}

static int add_primary(struct resolving *w, struct err **err)
{
	const struct target *primary = cluster_primary(w->cluster);

	if (!primary)
		return err_set(err, -EINVAL, "peer \"primary\": the cluster has none now");
	if (primary == w->target)
		return err_set(err, -EINVAL, "peer \"primary\": that is the target itself (%s)",
			w->target->info->name);
	add_instance(w, primary->info);
	return 0;
}

static int add_others(struct resolving *w, bool replicas_only, struct err **err)
{
	(void)err;
	const struct target *primary = cluster_primary(w->cluster);

	for (size_t i = 0; i < w->cluster->targets.count; i++) {
		const struct target *t = &w->cluster->targets.items[i];

		if (strcmp(t->info->name, w->target->info->name) == 0)
			continue;
		if (replicas_only && primary && strcmp(t->info->name, primary->info->name) == 0)
			continue;
		add_instance(w, t->info);
	}
	return 0;
}

static int add_replicas(struct resolving *w, struct err **err)
{
	return add_others(w, true, err);
}

static int add_instances(struct resolving *w, struct err **err)
{
	return add_others(w, false, err);
}

static void add_everybody(struct resolving *w, uint16_t port)
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
			add_everybody(w, p.port_low == p.port_high ? p.port_low : 0);
			peer_done(&p);
			continue;
		}
		inet_ntop(p.family, p.address, text, sizeof(text));
		/* The store alone, not all that its host serves, unless ports were asked for. */
		if (!w->port_low && !(p.port_low == 0 && p.port_high == 65535)) {
			w->port_low = p.port_low;
			w->port_high = p.port_high;
			add_address(w, text);
			w->port_low = w->port_high = 0;
		} else {
			add_address(w, text);
		}
		peer_done(&p);
	}
	return 0;
}

static int add_apiserver(struct resolving *w, struct err **err)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");

	if (!host)
		return err_set(err, -EINVAL,
			"peer \"apiserver\": no Kubernetes here (KUBERNETES_SERVICE_HOST is not set)");
	add_address(w, host);
	return 0;
}

static int add_dns(struct resolving *w, struct err **err)
{
	(void)err;
	add_everybody(w, 53);
	return 0;
}

static int add_all(struct resolving *w, struct err **err)
{
	(void)err;
	add_everybody(w, 0);
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
			add_address(w, text);
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
	{"clients", add_clients},   {"all", add_all},
};

static int resolve_name(struct resolving *w, const char *name, struct err **err)
{
	const struct target *t;

	for (size_t i = 0; i < ELEMENTS(names_known); i++)
		if (strcmp(names_known[i].name, name) == 0)
			return names_known[i].add(w, err);
	if (strchr(name, '/') && targets_find(&w->cluster->targets, name, &t, err) < 0)
		return err_wrap(err, -EINVAL, "peer \"%s\"", name);
	if (!strchr(name, '/'))
		return err_set(err, -EINVAL,
			"peer \"%s\": not an address, an instance (CLUSTER/MEMBER) or one of primary, "
			"replicas, instances, dcs, apiserver, dns, clients, all",
			name);
	if (strcmp(t->info->name, w->target->info->name) == 0)
		return err_set(err, -EINVAL, "peer \"%s\": that is the target itself", name);
	add_instance(w, t->info);
	return 0;
}

static int resolve_one(const struct cluster *c, const struct target *target, const char *text,
	char ***out, struct err **err)
{
	struct resolving w = {.cluster = c, .target = target};
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
	w.label = name;
	r = resolve_name(&w, name, err);
	if (r >= 0 && !w.out)
		r = err_set(err, -EINVAL, "peer \"%s\" resolves to nothing: %s", name,
			strcmp(name, "replicas") == 0 || strcmp(name, "instances") == 0 ?
				"the cluster has no other member" :
				"it has no address");
	for (size_t i = 0; r >= 0 && w.out[i]; i++)
		strv_push(out, strdup(w.out[i]));
	strv_free(w.out);
	return r;
}

int peers_resolve(const struct cluster *c, const struct target *target, char *const *names,
	char ***ret, struct err **err)
{
	_cleanup_strv_ char **out = NULL;

	for (size_t i = 0; names && names[i]; i++) {
		int r = resolve_one(c, target, names[i], &out, err);

		if (r < 0)
			return r;
	}
	*ret = steal_ptr(out);
	return 0;
}
