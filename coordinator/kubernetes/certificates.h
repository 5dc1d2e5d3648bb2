/*
 * Mutual TLS between coordinator and agents (RFC 5280): a CA of one use, a certificate for all agents, one
 * for the coordinators, one for who reads the metrics alone. The CA's key is wiped once it has signed them, so
 * nobody can make another.
 */
#pragma once

#include <time.h>
#include "core/err.h"

#define CLIENT_NAME "pgjolt-client"
#define METRICS_NAME "pgjolt-metrics"

struct certificates {
	char *ca;			/* PEM, as are all */
	char *agent_cert, *agent_key;	/* DNS name AGENT_SERVER_NAME, of a server */
	char *client_cert, *client_key;	/* CN CLIENT_NAME, of a client */
	char *metrics_cert, *metrics_key;	/* CN METRICS_NAME, of a client */
};
/* The keys are wiped. */
void certificates_done(struct certificates *c);

int certificates_make(unsigned days, struct certificates *ret, struct err **err);
/* When the first certificate of a PEM text ends. */
int certificate_expiry(const char *pem, time_t *ret, struct err **err);
/* new, and behind it the first of old, unless that has expired or is no certificate: who holds this trusts
 * what either has signed. Caller frees. */
char *certificates_bundle(const char *new, const char *old);
