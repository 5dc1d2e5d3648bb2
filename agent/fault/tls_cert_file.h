/* Which file of an instance tls-cert is about. */
#pragma once

#include "core/err.h"
#include "core/wire.h"

/* Indices are those of the parameter's choices. */
enum tls_file { TLS_FILE_SERVER, TLS_FILE_CA, TLS_FILE_CLIENT };

/* Its absolute path as PostgreSQL names it, by its settings; links are not followed. -EINVAL says why there
 * is none: ssl is off, ssl_ca_file or primary_conninfo is not set. Caller frees. */
int tls_file_find(const struct instance_info *i, enum tls_file which, char **ret, struct err **err);
