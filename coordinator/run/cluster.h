/* One PostgreSQL cluster under a drill: its instances, the agents that reach them, its manager. */
#pragma once

#include "manager/manager.h"
#include "session.h"

struct cluster {
	struct session *session;	/* borrowed */
	char *name;
	struct targets targets;
	struct manager *manager;
	struct cluster_view *view;	/* the newest, from whichever member */
};

/* name NULL: the only one there is. manager NULL: found by asking. */
int cluster_open(struct session *s, const char *name, const char *manager, struct cluster *ret,
	struct err **err);
void cluster_done(struct cluster *c);
/* Looks again: postmasters restart. An instance that is not there keeps its old entry. */
int cluster_refresh(struct cluster *c, struct err **err);
/* Takes view. */
void cluster_set_view(struct cluster *c, struct cluster_view *view);
/* Who leads: the manager's word, else the only instance whose role is primary. NULL: nobody. */
const struct target *cluster_primary(const struct cluster *c);
/* Of one instance in the newest view; NULL: not there. */
const struct cluster_member *cluster_member_of(const struct cluster *c, const char *instance);
