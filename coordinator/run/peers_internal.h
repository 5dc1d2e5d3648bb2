/* Between the files that resolve peers. */
#pragma once

#include "kubernetes/services.h"
#include "run/peers.h"

/* One name on its way to addresses. */
struct resolving {
	const struct cluster *cluster;
	const struct target *target;
	const char *name;		/* what stands in the drill, without ports */
	char *label;			/* what evidence is counted under */
	uint16_t port_low, port_high;	/* 0, 0: any */
	char **out;
	char **addresses;		/* of the peers themselves, as far as they are pods */
	char ***notes;			/* may be NULL */
};

void resolving_address(struct resolving *w, const char *address);
/* With the ports of a thing that has its own, unless ports were asked for. 0, 0 or 0, 65535: any. */
void resolving_address_ports(struct resolving *w, const char *address, uint16_t low, uint16_t high);
void resolving_everybody(struct resolving *w, uint16_t port);
void resolving_note(struct resolving *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct kube *resolving_kube(const struct resolving *w);	/* NULL: no Kubernetes */
/* The namespace of the target. */
const char *resolving_namespace(const struct resolving *w);

/* The Services that lead to w->addresses; by_role: those too that may after the roles of the cluster's
 * members have changed. */
int peers_add_services(struct resolving *w, const char *namespace, bool by_role, struct err **err);
/* A pod's addresses by the API: those that an instance on its node's network has. */
int peers_add_pod(struct resolving *w, const char *namespace, const char *pod, struct err **err);
/* "service:NS/NAME", "pods:[NS:]SELECTOR", "node:NAME". */
int peers_add_kind(struct resolving *w, struct err **err);
int peers_add_operator(struct resolving *w, struct err **err);
int peers_add_apiserver(struct resolving *w, struct err **err);
/* -ENOENT: no name service is known. */
int peers_add_dns(struct resolving *w, struct err **err);
