/*
 * Titles of PostgreSQL's processes (src/backend/utils/misc/ps_status.c, postmaster/, replication/):
 * "postgres: [CLUSTER_NAME: ]WHAT". WHAT is a fixed word for a process of PostgreSQL's own, and
 * "USER DATABASE HOST ACTIVITY" for a client's backend. A user can choose a name that looks like a
 * word: a word counts only where nothing or what PostgreSQL itself would write comes after it.
 */
#pragma once

#include <stdbool.h>
#include "core/err.h"

/* What comes after "postgres: " and the cluster's name; NULL if it is not such a title. cluster:
 * NULL where not known: then a name is skipped only if one of the fixed words comes after it, as
 * also where the title has another name. */
const char *process_title_rest(const char *title, const char *cluster);

/* The cluster's name in a title that ends in a fixed word ("postgres: lab: checkpointer" -> "lab");
 * false if there is none. Caller frees. */
bool process_title_cluster(const char *title, char **ret);

/* Does a process of this title match one of the patterns? A pattern is a kind
 * (instance_process_kind()), a group of kinds (autovacuum, logical replication; bgwriter for the
 * background writer), or what the title starts with after the cluster's name ("alice app":
 * whole words), or a glob of all of that (fnmatch(3): "* idle in transaction"). */
bool process_title_matches(const char *title, const char *cluster, char *const *patterns);
