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

struct cluster_member {
	char *name;		/* the manager's name of it */
	char *instance;		/* instance_info.name, matched by address or member name; may be NULL */
	enum role role;
	bool running;		/* as the manager says ("running", "streaming") */
	bool sync_standby;
	char *state;		/* the manager's own word */
	uint32_t timeline;	/* 0: unknown */
	int64_t lag_bytes;	/* -1: unknown */
};

struct cluster_view {
	uint64_t at_ns;		/* when the answer came */
	char *source;		/* which member answered */
	char *leader;		/* name of the member that leads; NULL: none */
	bool paused;		/* maintenance */
	bool synchronous;	/* commits are to wait for a replica, as the manager is set up */
	struct cluster_member *members;
	size_t n_members;
};
void cluster_view_free(struct cluster_view *v);

struct kube;
struct manager;

typedef void (*manager_listener)(const struct cluster_view *v, void *data);

/* All that a driver may ask. Borrowed while the manager lives, but instances: those are copied. */
struct manager_world {
	struct http_client *http;
	sd_event *event;
	struct instance_info *const *instances;
	size_t n;
	struct kube *kube;	/* NULL: no Kubernetes */
	const char *cluster;	/* NAMESPACE/NAME; NULL: not known. Copied */
};

struct manager_driver {
	const char *name;	/* "patroni", "plain" */
	/* Does this manager run the cluster? Runs the loop (bounded, 2 s). 0, or -ENOENT. */
	int (*detect)(const struct manager_world *w, struct err **err);
	int (*open)(const struct manager_world *w, struct manager **ret, struct err **err);
};

struct manager_ops {
	/* One view now, from whichever member answers best; runs the loop. */
	int (*read)(struct manager *m, struct cluster_view **ret, struct err **err);
	/* A view each time one comes, every interval_ms from every member that answers. */
	int (*watch)(struct manager *m, uint64_t interval_ms, manager_listener listener, void *data,
		struct err **err);
	/* Addresses ("10.0.0.5/32:2379") of the distributed configuration store; may be empty. */
	int (*dcs_addresses)(struct manager *m, char ***ret, struct err **err);
	void (*free)(struct manager *m);
};

/* Base of every manager. */
struct manager {
	const struct manager_driver *driver;
	const struct manager_ops *ops;
};

/* NULL-terminated. */
const struct manager_driver *const *manager_drivers(void);
/* name NULL or "auto": the first that detects; "plain" always does. */
int manager_open(const char *name, const struct manager_world *w, struct manager **ret,
	struct err **err);
