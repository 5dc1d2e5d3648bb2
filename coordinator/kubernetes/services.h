/*
 * Services and what they lead to: EndpointSlices (discovery.k8s.io/v1), or Endpoints (core/v1) where the
 * server has none of these. A pod that calls a Service sends to the Service's address; the node
 * translates it behind the pod's interface, and back. So inside the pod the Service is all that can be
 * seen of who answers.
 */
#pragma once

#include "kube/kube.h"

struct service_port {
	char *name;		/* "" where it has none */
	uint16_t port;
};

/* One address with one port behind a Service. */
struct service_endpoint {
	char *address;
	char *pod;		/* NULL: no pod, or not said */
	char *port_name;	/* of the Service's port that leads here */
	uint16_t port;		/* 0: not said */
};

struct service {
	char *namespace, *name;
	char **addresses;	/* ClusterIPs, external and balancers' IPs; NULL: headless */
	char *external_name;	/* of one that is a mere alias in DNS; NULL */
	char **selector;	/* "key=value" */
	struct service_port *ports;
	size_t n_ports;
	struct service_endpoint *endpoints;
	size_t n_endpoints;
};

struct services {
	struct service *items;
	size_t count;
};
void services_done(struct services *s);

/* From the items of lists; slices NULL: by endpoints. What is malformed in them is left out. */
void services_of_objects(const cJSON *services, const cJSON *slices, const cJSON *endpoints,
	struct services *ret);
/* All of a namespace. */
int services_read(struct kube *k, const char *namespace, struct services *ret, struct err **err);
const struct service *services_find(const struct services *s, const char *name);
bool service_leads_to(const struct service *s, const char *address);
