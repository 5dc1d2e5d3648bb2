/*
 * What every manager in Kubernetes is built on: watches of the cluster's pods and of the Kubernetes
 * events about them, the listener, and the names. Nothing is polled. A driver embeds it first.
 */
#pragma once

#include "kube/kube.h"
#include "manager/pod.h"

#define KUBE_MANAGER_WATCHES 4
#define KUBE_MANAGER_TOLD    32

struct kube_manager;

struct kube_manager_object {	/* one of the driver's own watches */
	struct kube_manager *manager;
	struct kube_watch *watch;
	bool known;		/* a list of it came */
	/* With each change; object NULL: nothing is told of a list or a loss. */
	void (*changed)(struct kube_manager *m, enum kube_change change, const cJSON *object);
};

struct kube_manager {
	struct manager base;
	struct kube *kube;
	char *namespace, *name;		/* of the cluster */
	char *kind;			/* of the object that Kubernetes events name; NULL: pods alone */
	struct instance_info **instances;	/* copies */
	size_t n_instances;
	struct pod *pods;
	size_t n_pods;
	struct manager_listener listener;
	/* A pod's state changed: the driver shows a new view. */
	void (*pods_changed)(struct kube_manager *m);
	bool pods_known, events_known, lost;
	struct kube_watch *pod_watch, *event_watch;
	struct kube_manager_told {
		char *object, *reason;
		uint64_t at_ns;
	} told[KUBE_MANAGER_TOLD];	/* of Kubernetes events, lately */
	size_t next_told;
	struct kube_manager_object objects[KUBE_MANAGER_WATCHES];
	size_t n_objects;
};

/* name: of the cluster; selector: of its pods' labels ("a=b,c=d", not encoded). Waits for the list of
 * pods. On failure nothing is held. */
int kube_manager_init(struct kube_manager *m, const struct manager_world *w, const char *namespace,
	const char *name, const char *selector, struct err **err);
/* May be called twice. */
void kube_manager_done(struct kube_manager *m);
/* Another object of the driver's: of resource ("clusters") in api ("/apis/postgresql.cnpg.io/v1") the one
 * of the cluster's name, or, with a label, those that have the name as its value. Waits for the first
 * list; needed: without it this fails. */
int kube_manager_add(struct kube_manager *m, const char *api, const char *resource, const char *label,
	bool needed,
	void (*changed)(struct kube_manager *m, enum kube_change change, const cJSON *object),
	struct err **err);
/* From here on events and views are told. */
int kube_manager_listen(struct kube_manager *m, const struct manager_listener *l, struct err **err);

/* pod may be NULL. Does nothing while nobody listens. */
void kube_manager_tell(struct kube_manager *m, enum event_kind kind, const char *pod,
	const char *value, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
const struct pod *kube_manager_pod(const struct kube_manager *m, const char *name);
/* The object that the k-th kube_manager_add() watches, by name; NULL: it is not there. Borrowed until
 * the loop runs. */
const cJSON *kube_manager_object(const struct kube_manager *m, size_t k, const char *name);

/* Has the server told of the k-th: is what is not there known not to be there? */
bool kube_manager_known(const struct kube_manager *m, size_t k);

/* Fills address and node of the members that are pods; instance, where it is not known yet. */
void kube_manager_dress(const struct kube_manager *m, struct cluster_view *v);

/* Where the API server is, as pods reach it: the Service "kubernetes" and what is behind it
 * ("10.96.0.1/32:443", "192.0.2.1/32:6443", "[fd00::1/128]:6443"): before and after the translation of addresses. */
int kube_manager_apiserver(struct kube *k, char ***ret, struct err **err);
