/*
 * CloudNativePG's failover quorum (FailoverQuorum, `postgresql.cnpg.io/v1`): which replicas commits wait
 * for, as the primary wrote it last, and what the operator makes of that before a failover
 * (internal/controller/replicas_quorum.go). Pure functions; nothing in the objects is trusted.
 */
#pragma once

#include "manager/pod.h"

enum cnpg_quorum {
	QUORUM_OFF,	/* the Cluster does not ask for one */
	QUORUM_RESET,	/* it does, and there is none that counts: a failover would be refused until there is */
	QUORUM_REFUSES,	/* R + W > N does not hold: a failover would be refused */
	QUORUM_ALLOWS,	/* as far as the pods' readiness tells: the operator also asks the instances */
};

/*
 * Were the current primary lost now. quorum NULL: there is none. *ret: one line of printable text; NULL:
 * QUORUM_OFF and no object; caller frees.
 */
enum cnpg_quorum cnpg_quorum_judge(const cJSON *cluster, const cJSON *quorum, const struct pod *pods,
	size_t n_pods, char **ret);

/* A word of theirs for a text of ours: what is not printable ASCII is a "?", what is longer is cut. "" for
 * NULL. */
#define CNPG_WORD 64
const char *cnpg_word(char to[CNPG_WORD], const char *word);
