#include "api/body.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include "core/json.h"

/* "application/json", parameters or not. */
static bool is_json_type(const char *type)
{
	static const char wanted[] = "application/json";
	size_t n = sizeof(wanted) - 1;

	return type && strncasecmp(type, wanted, n) == 0 && strchr("; \t", type[n]) != NULL;
}

unsigned body_check(enum route_body kind, const char *text, size_t length, const char *type, cJSON **ret,
	struct err **err)
{
	static const struct json_field nothing[] = {JSON_FIELD_END};
	char unused;

	if (length == 0) {
		if (kind != ROUTE_BODY_REQUIRED)
			return 0;
		err_set(err, -EINVAL, "a JSON body is needed");
		return 400;
	}
	if (kind == ROUTE_BODY_NONE) {
		err_set(err, -EINVAL, "this route takes no body");
		return 400;
	}
	if (!is_json_type(type)) {
		err_set(err, -EINVAL, "Content-Type: expected application/json, got %.60s",
			type ? type : "none");
		return 415;
	}
	if (json_parse(text, length, ret, err) < 0)
		return 400;
	if (kind == ROUTE_BODY_EMPTY &&
	    json_dispatch(*ret, nothing, &unused, JSON_REFUSE_UNKNOWN, err) < 0)
		return 400;
	return 0;
}
