/* What tls-cert leaves in the journal, how that is undone and looked at. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/err.h"
#include "fault/fault.h"

/* The tmpfs's source: "pgjolt-tls-cert-" and a random number. */
#define TLS_CERT_SOURCE	    "pgjolt-tls-cert-"
#define TLS_CERT_SOURCE_MAX 64
int tls_cert_source_draw(char ret[static TLS_CERT_SOURCE_MAX], struct err **err);

/* {"source", "path", "pid", "start_ticks", "namespace", "pgdata", "reload"}; caller deletes. */
cJSON *tls_cert_record(const struct instance_info *i, const char *source, const char *path,
	uint64_t ns, bool reload);

int tls_cert_revert(const struct undo *u, struct err **err);
int tls_cert_verify(const struct undo *u, struct err **err);
