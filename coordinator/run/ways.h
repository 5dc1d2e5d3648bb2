/*
 * The clients' way into a cluster in Kubernetes: the Service that leads to the primary, and the one that
 * leads to the replicas, by ClusterIP, since the coordinator may have no name service of the cluster's.
 * Also the login, out of a Secret.
 */
#pragma once

#include "kubernetes/services.h"
#include "probe/conninfo.h"
#include "probe/probe.h"
#include "run/cluster.h"

struct service_way {
	char *name, *address;	/* NULL: none was found */
	uint16_t port;
};

struct ways {
	char *write_host, *read_host;	/* NAME.NAMESPACE.svc */
	struct service_way write, read;
	struct pg_login login;
};
void ways_done(struct ways *w);

/* What the namespace's Services are chosen by. */
struct way_question {
	const struct services *services;
	char *const *primary, *const *replicas;	/* addresses of theirs */
	uint16_t port;				/* that PostgreSQL listens on in the pods */
};
/*
 * The Service called hint, if it has a ClusterIP; else, write: one whose endpoints are the primary alone;
 * read: the one with the most endpoints, all of which are replicas. Those that name one pod
 * (statefulset.kubernetes.io/pod-name) are no way that clients take. Pure. False: there is none.
 */
bool service_pick(const struct way_question *q, const char *hint, bool write, struct service_way *ret);

/* user_secret: NAMESPACE/NAME, or NULL. Without Kubernetes all stays empty; then a secret is an error. */
int ways_find(const struct cluster *c, const char *user_secret, struct ways *ret, struct err **err);
/* Secret v1: data.username or data.user, data.password, data.dbname (may be missing). */
int login_from_secret(const cJSON *secret, struct pg_login *ret, struct err **err);
