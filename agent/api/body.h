/* A request's body held against what its route takes. */
#pragma once

#include <cjson/cJSON.h>
#include "api/route.h"

/* type: of the Content-Type header, or NULL. Returns 0 with *ret parsed (unset where there is no body),
 * or the HTTP status of the refusal with its words. Caller deletes *ret. */
unsigned body_check(enum route_body kind, const char *text, size_t length, const char *type, cJSON **ret,
	struct err **err);
