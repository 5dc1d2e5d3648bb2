/*
 * HA managers, one driver a file. A manager says who leads, who follows, and what it did when. All
 * calls are asynchronous on the loop; each view is a snapshot taken at a known time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/err.h"
#include "core/wire.h"
#include "http/http_client.h"
#include "run/run_record.h"

struct cluster_member {
	char *name;		/* the manager's name of it */
	char *instance;		/* instance_info.name, matched by address or member name; may be NULL */
	enum role role;
	bool running;		/* as the manager says ("running", "streaming") */
	bool sync_standby;
	char *state;		/* the manager's own word */
	uint32_t timeline;	/* 0: unknown */
	int64_t lag_bytes;	/* -1: unknown */
	/* Of its pod now; NULL: not in Kubernetes, or not known. */
	char *address, *node;
};

struct cluster_view {
	uint64_t at_ns;		/* when the answer came */
	char *source;		/* which member answered */
	char *leader;		/* name of the member that leads; NULL: none */
	char *leader_since;	/* the manager's word for since when: for texts, never reckoned by; NULL */
	bool paused;		/* maintenance */
	bool guessed;		/* no manager's word: what the instances were when the drill began */
	bool synchronous;	/* commits are to wait for a replica, as the manager is set up */
	char *refuse;		/* why no drill may begin now (fenced, hibernated); NULL: nothing */
	char *unsettled;	/* the manager's word for what it is still about; NULL: nothing */
	struct cluster_member *members;
	size_t n_members;
};
void cluster_view_free(struct cluster_view *v);
struct cluster_view *cluster_view_copy(const struct cluster_view *v);

/* What a manager, or Kubernetes of its pods, tells besides views. */
struct manager_event {
	enum event_kind kind;	/* EVENT_CHOSEN, _PHASE, _READY, _POD, _KUBERNETES, _NOTE */
	const char *instance;	/* instance_info.name; NULL: none */
	const char *value;	/* as run_record.h says of the kind */
	const char *text;	/* one line */
};

struct kube;
struct manager;

/* Called from the loop; what it gets is borrowed. event may be NULL. */
struct manager_listener {
	void (*view)(const struct cluster_view *v, void *data);
	void (*event)(const struct manager_event *e, void *data);
	void *data;
};

/* The Services that clients take, by name in the cluster's namespace; NULL: none is known. Static or
 * the manager's. */
struct manager_services {
	const char *write, *read;
};

/* All that a driver may ask. Borrowed while the manager lives, but instances and pod. */
struct manager_world {
	struct http_client *http;
	sd_event *event;
	struct instance_info *const *instances;
	size_t n;
	struct kube *kube;	/* NULL: no Kubernetes */
	const char *cluster;	/* NAMESPACE/NAME; NULL: not known. Copied */
	const cJSON *pod;	/* of one of the instances; NULL: no word of the API server. manager_open() */
};

struct manager_driver {
	const char *name;	/* "patroni", "cnpg", "plain" */
	/* Does this manager run the cluster? Runs the loop (bounded, 2 s). 0, or -ENOENT. */
	int (*detect)(const struct manager_world *w, struct err **err);
	int (*open)(const struct manager_world *w, struct manager **ret, struct err **err);
};

struct manager_ops {
	/* One view now, from whichever member answers best; runs the loop. */
	int (*read)(struct manager *m, struct cluster_view **ret, struct err **err);
	/* A view each time one comes: every interval_ms from every member that is polled, and with every
	 * change that Kubernetes tells of. */
	int (*watch)(struct manager *m, uint64_t interval_ms, const struct manager_listener *l,
		struct err **err);
	/* Addresses ("10.0.0.5/32:2379") of the distributed configuration store; may be empty. */
	int (*dcs_addresses)(struct manager *m, char ***ret, struct err **err);
	/* May be NULL: there are none. */
	struct manager_services (*services)(struct manager *m);
	void (*free)(struct manager *m);
};

/* Base of every manager. */
struct manager {
	const struct manager_driver *driver;
	const struct manager_ops *ops;
};

/* NULL-terminated. */
const struct manager_driver *const *manager_drivers(void);
/* Of the option --manager: its words and, for completion, its values. A test compares them with the drivers. */
#define MANAGER_NAMES "auto cnpg crunchy zalando stackgres patroni-kubernetes patroni statefulset plain"
#define MANAGER_NAMES_HELP                                                                          \
	"auto (default), cnpg, crunchy, zalando, stackgres, patroni-kubernetes, patroni, statefulset or " \
	"plain"
/* "auto, cnpg, ... or plain", for messages; caller frees. */
char *manager_names(void);
/* name NULL or "auto": the first that detects; "plain" always does. */
int manager_open(const char *name, const struct manager_world *w, struct manager **ret,
	struct err **err);
