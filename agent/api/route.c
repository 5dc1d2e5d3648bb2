#include "api/route.h"

#include <stdio.h>
#include <string.h>
#include "core/json.h"

#define TARGET_MAX 2048

static const char *const events_query[] = {"after", "follow", NULL};

const struct route routes[] = {
	{"GET", "/healthz", .right = RIGHT_NONE, .handle = handle_health},
	{"GET", "/metrics", .right = RIGHT_NONE, .handle = handle_metrics},
	{"GET", "/v1/clock", .handle = handle_clock},
	{"GET", "/v1/events", .query = events_query, .handle = handle_events},
	{"GET", "/v1/experiments", .handle = handle_list},
	{"POST", "/v1/experiments", "arm", .body = ROUTE_BODY_REQUIRED, .right = RIGHT_ARM,
		.handle = handle_arm},
	{"GET", "/v1/experiments/{id}", .handle = handle_get},
	{"POST", "/v1/experiments/{id}/fire", "fire", .body = ROUTE_BODY_EMPTY, .right = RIGHT_KEEP,
		.handle = handle_fire},
	{"POST", "/v1/experiments/{id}/renew", "renew", .body = ROUTE_BODY_REQUIRED, .right = RIGHT_KEEP,
		.handle = handle_renew},
	{"POST", "/v1/experiments/{id}/revert", "revert", .body = ROUTE_BODY_EMPTY, .right = RIGHT_STOP,
		.handle = handle_revert},
	{"GET", "/v1/instances", .handle = handle_instances},
	{"POST", "/v1/leave", "leave", .body = ROUTE_BODY_EMPTY, .handle = handle_leave},
	{"GET", "/v1/node", .handle = handle_node},
	{"POST", "/v1/probe", "probe", .body = ROUTE_BODY_EMPTY, .handle = handle_probe},
	{"POST", "/v1/revert", "revert all", .body = ROUTE_BODY_OPTIONAL, .right = RIGHT_STOP,
		.handle = handle_revert_all},
};
const unsigned routes_count = ELEMENTS(routes);

void answer_done(struct answer *a)
{
	cJSON_Delete(a->json);
	free(a->text);
	event_stream_free(a->stream);
	*a = (struct answer){0};
}

/* Does path fit pattern? The one segment that stands for {id} goes to id. */
static bool path_fits(const char *pattern, const char *path, char *id)
{
	const char *hole = strstr(pattern, "{id}");
	size_t prefix, n;

	if (!hole)
		return strcmp(pattern, path) == 0;
	prefix = (size_t)(hole - pattern);
	if (strncmp(pattern, path, prefix) != 0)
		return false;
	n = strcspn(path + prefix, "/");
	if (n == 0 || n > ROUTE_ID_MAX || strcmp(path + prefix + n, hole + strlen("{id}")) != 0)
		return false;
	memcpy(id, path + prefix, n);
	id[n] = '\0';
	return true;
}

enum route_result route_find(const char *method, const char *path, const struct route **ret,
	char ret_id[static ROUTE_ID_MAX + 1], char allow[static ROUTE_ALLOW_MAX])
{
	char id[ROUTE_ID_MAX + 1] = "";
	size_t used = 0;

	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	for (unsigned i = 0; i < routes_count; i++) {
		if (!path_fits(routes[i].path, path, id))
			continue;
		if (strcmp(routes[i].method, method) == 0) {
			memcpy(ret_id, id, sizeof(id));
			*ret = &routes[i];
			return ROUTE_FOUND;
		}
		used += (size_t)snprintf(allow + used, ROUTE_ALLOW_MAX - used, "%s%s",
			used ? ", " : "", strcmp(routes[i].method, "GET") == 0 ? "GET, HEAD" :
			routes[i].method);
	}
	return used ? ROUTE_WRONG_METHOD : ROUTE_UNKNOWN;
}

cJSON *route_unknown_to_json(void)
{
	cJSON *o = json_object(), *e = json_object(), *list = json_array();
	char name[ROUTE_ALLOW_MAX];

	json_add_string(e, "code", "ENOENT");
	json_add_int(e, "status", 404);
	json_add_string(e, "message", "no such route; \"routes\" lists those there are");
	json_add_item(o, "error", e);
	for (unsigned i = 0; i < routes_count; i++) {
		snprintf(name, sizeof(name), "%s %s", routes[i].method, routes[i].path);
		json_append(list, cJSON_CreateString(name));
	}
	json_add_item(o, "routes", list);
	return o;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The byte of "%XX" at s, or -1. */
static int hex_byte(const char *s)
{
	int high = hex_digit(s[1]), low = high < 0 ? -1 : hex_digit(s[2]);

	return low < 0 ? -1 : high * 16 + low;
}

const char *route_target_problem(const char *target)
{
	if (strlen(target) > TARGET_MAX)
		return "the request's target is longer than 2048 bytes";
	for (const char *p = target; *p; p++) {
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			return "a byte in the request's target must be percent-encoded";
		if (*p == '%' && hex_byte(p) < 0)
			return "\"%\" in the request's target is not followed by two hex digits";
		if (*p == '%' && hex_byte(p) == 0)
			return "a NUL byte in the request's target";
	}
	return NULL;
}

size_t route_decode(char *s)
{
	char *to = s;

	for (const char *from = s; *from; from++) {
		int byte = *from == '%' ? hex_byte(from) : -1;

		if (byte > 0) {
			*to++ = (char)byte;
			from += 2;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	return (size_t)(to - s);
}
