/*
 * Patroni with Kubernetes as its configuration store (patroni/dcs/kubernetes.py): the lock is the
 * annotation `leader` of the Endpoints SCOPE, or of the ConfigMap SCOPE-leader; each member keeps its
 * state in its pod's annotation `status`. What the store says is told as it happens; members are asked by
 * REST for one thing alone, whether the lock has run out (manager/patroni_votes.h).
 * The operators that are built on Patroni share all of this and differ by a patroni_flavour.
 */
#pragma once

#include "manager/pod.h"

extern const struct manager_driver manager_patroni_kubernetes;

struct patroni_flavour {
	const struct manager_driver *driver;
	const char *label;		/* whose value is the cluster's name */
	const char *pods_too;		/* more for the pods' selector, ",key=value"; "" */
	const char *scope_suffix;	/* Patroni's scope is the name with it; "" */
	bool rest;			/* the REST API speaks plain HTTP to anybody */
	const char *write_suffix, *read_suffix;	/* of the Services; NULL: none is known */
	/* The operator's own object, which bears the cluster's name; NULL: none. */
	const char *kind, *api, *resource;
	/* Sets refuse and unsettled by it. */
	void (*judge)(const cJSON *object, struct cluster_view *v);
};

/* Does one of the pods bear the label (and `also`, unless NULL, with that value)? */
int patroni_flavour_detect(const struct patroni_flavour *f, const char *also, const char *value,
	const struct manager_world *w, struct err **err);
int patroni_flavour_open(const struct patroni_flavour *f, const struct manager_world *w,
	struct manager **ret, struct err **err);

/* The store's objects of one scope; each may be NULL. */
struct patroni_store {
	const cJSON *leader, *config, *sync;
	bool unlocked;			/* the lock has run out, whatever it says */
};
/* A view out of the store alone. Nothing in it is trusted; what cannot be read is unknown. */
struct cluster_view *patroni_store_view(const struct patroni_store *s, const struct pod *pods,
	size_t n_pods, uint64_t at_ns);
