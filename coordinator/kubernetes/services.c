#include "kubernetes/services.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void service_done(struct service *s)
{
	free(s->namespace);
	free(s->name);
	strv_free(s->addresses);
	free(s->external_name);
	strv_free(s->selector);
	for (size_t i = 0; i < s->n_ports; i++)
		free(s->ports[i].name);
	free(s->ports);
	for (size_t i = 0; i < s->n_endpoints; i++) {
		free(s->endpoints[i].address);
		free(s->endpoints[i].pod);
		free(s->endpoints[i].port_name);
	}
	free(s->endpoints);
}

void services_done(struct services *s)
{
	for (size_t i = 0; i < s->count; i++)
		service_done(&s->items[i]);
	free(s->items);
	*s = (struct services){0};
}

static void add_address(struct service *s, const char *text)
{
	unsigned char bytes[16];

	/* "None" of a headless one is no address. */
	if (!text || (inet_pton(AF_INET, text, bytes) != 1 && inet_pton(AF_INET6, text, bytes) != 1))
		return;
	if (!strv_contains(s->addresses, text))
		strv_push(&s->addresses, strdup(text));
}

static void read_addresses(struct service *s, const cJSON *object)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, kube_field(object, "spec.clusterIPs"))
		add_address(s, cJSON_GetStringValue(item));
	add_address(s, kube_text(object, "spec.clusterIP"));
	cJSON_ArrayForEach(item, kube_field(object, "spec.externalIPs"))
		add_address(s, cJSON_GetStringValue(item));
	/* Nodes translate these themselves, without a way over the balancer. */
	cJSON_ArrayForEach(item, kube_field(object, "status.loadBalancer.ingress"))
		add_address(s, kube_text(item, "ip"));
}

static uint16_t port_number(const cJSON *item)
{
	return cJSON_IsNumber(item) && item->valuedouble >= 1 && item->valuedouble <= UINT16_MAX ?
		       (uint16_t)item->valuedouble :
		       0;
}

static char *port_name(const cJSON *port)
{
	const char *name = kube_text(port, "name");

	return strdup(name ? name : "");
}

static void read_ports(struct service *s, const cJSON *object)
{
	const cJSON *ports = kube_field(object, "spec.ports"), *item;

	s->ports = calloc((size_t)cJSON_GetArraySize(ports) + 1, sizeof(*s->ports));
	if (!s->ports)
		abort();
	cJSON_ArrayForEach(item, ports)
	{
		uint16_t number = port_number(json_get(item, "port"));

		if (number)
			s->ports[s->n_ports++] = (struct service_port){port_name(item), number};
	}
}

static void read_service(struct service *s, const cJSON *object)
{
	const char *type = kube_text(object, "spec.type");
	const char *external = kube_text(object, "spec.externalName");
	const cJSON *item;

	*s = (struct service){
		.namespace = strdup(kube_namespace(object)),
		.name = strdup(kube_name(object)),
		.external_name = type && strcmp(type, "ExternalName") == 0 && external ?
					 strdup(external) :
					 NULL,
	};
	read_addresses(s, object);
	read_ports(s, object);
	cJSON_ArrayForEach(item, kube_field(object, "spec.selector"))
	{
		char *text = NULL;

		if (cJSON_IsString(item) && asprintf(&text, "%s=%s", item->string, item->valuestring) > 0)
			strv_push(&s->selector, text);
	}
}

static void add_endpoint(struct service *s, const char *address, const char *pod, const cJSON *port)
{
	unsigned char bytes[16];

	if (!address || (inet_pton(AF_INET, address, bytes) != 1 &&
				inet_pton(AF_INET6, address, bytes) != 1))
		return;
	s->endpoints = reallocarray(s->endpoints, s->n_endpoints + 1, sizeof(*s->endpoints));
	if (!s->endpoints)
		abort();
	s->endpoints[s->n_endpoints++] = (struct service_endpoint){
		.address = strdup(address),
		.pod = pod ? strdup(pod) : NULL,
		.port_name = port_name(port),
		.port = port_number(json_get(port, "port")),
	};
}

/* With each of its ports, or once where it has none. */
static void add_endpoint_ports(struct service *s, const char *address, const cJSON *target,
	const cJSON *ports)
{
	const char *kind = kube_text(target, "kind"), *pod = kube_text(target, "name");
	const cJSON *port;

	if (!kind || strcmp(kind, "Pod") != 0)
		pod = NULL;
	if (!cJSON_IsArray(ports) || !ports->child)
		add_endpoint(s, address, pod, NULL);
	cJSON_ArrayForEach(port, ports)
		add_endpoint(s, address, pod, port);
}

static void read_slice(struct service *s, const cJSON *slice)
{
	const cJSON *item, *address;

	cJSON_ArrayForEach(item, json_get(slice, "endpoints"))
		cJSON_ArrayForEach(address, json_get(item, "addresses"))
			add_endpoint_ports(s, cJSON_GetStringValue(address),
				json_get(item, "targetRef"), json_get(slice, "ports"));
}

/* Those that are not ready too: they will be led to as soon as they are. */
static void read_endpoints(struct service *s, const cJSON *object)
{
	static const char *const lists[] = {"addresses", "notReadyAddresses"};
	const cJSON *subset, *item;

	cJSON_ArrayForEach(subset, json_get(object, "subsets"))
		for (size_t i = 0; i < ELEMENTS(lists); i++)
			cJSON_ArrayForEach(item, json_get(subset, lists[i]))
				add_endpoint_ports(s, kube_text(item, "ip"),
					json_get(item, "targetRef"), json_get(subset, "ports"));
}

static struct service *find_in(const struct services *s, const char *namespace, const char *name)
{
	for (size_t i = 0; name && i < s->count; i++)
		if (strcmp(s->items[i].name, name) == 0 &&
			strcmp(s->items[i].namespace, namespace) == 0)
			return &s->items[i];
	return NULL;
}

void services_of_objects(const cJSON *services, const cJSON *slices, const cJSON *endpoints,
	struct services *ret)
{
	struct services all = {0};
	const cJSON *item;

	all.items = calloc((size_t)cJSON_GetArraySize(services) + 1, sizeof(*all.items));
	if (!all.items)
		abort();
	cJSON_ArrayForEach(item, services)
		if (*kube_name(item))
			read_service(&all.items[all.count++], item);
	cJSON_ArrayForEach(item, slices)
	{
		struct service *s = find_in(&all, kube_namespace(item),
			kube_label(item, "kubernetes.io/service-name"));

		if (s)
			read_slice(s, item);
	}
	if (!slices)
		cJSON_ArrayForEach(item, endpoints)
		{
			struct service *s = find_in(&all, kube_namespace(item), kube_name(item));

			if (s)
				read_endpoints(s, item);
		}
	*ret = all;
}

int services_read(struct kube *k, const char *namespace, struct services *ret, struct err **err)
{
	_cleanup_free_ char *path = kube_path("/api/v1/namespaces/%s/services", namespace);
	_cleanup_free_ char *slices_path = kube_path(
		"/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices", namespace);
	_cleanup_free_ char *endpoints_path = kube_path("/api/v1/namespaces/%s/endpoints", namespace);
	_cleanup_json_ cJSON *services = NULL, *slices = NULL, *endpoints = NULL;
	int r = kube_list(k, path, &services, err);

	if (r >= 0) {
		r = kube_list(k, slices_path, &slices, err);
		/* Before 1.21 there are none of this version; an older role may not allow them. */
		if (r == -ENOENT || r == -EPERM)
			r = kube_list(k, endpoints_path, &endpoints, err);
	}
	if (r < 0)
		return err_wrap(err, r, "services of namespace %s", namespace);
	services_of_objects(services, slices, endpoints, ret);
	return 0;
}

const struct service *services_find(const struct services *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (strcmp(s->items[i].name, name) == 0)
			return &s->items[i];
	return NULL;
}

bool service_leads_to(const struct service *s, const char *address)
{
	for (size_t i = 0; i < s->n_endpoints; i++)
		if (strcmp(s->endpoints[i].address, address) == 0)
			return true;
	return false;
}
