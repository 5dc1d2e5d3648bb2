/* The routes: what is asked for, how its body and query may look, and who answers. */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <sys/types.h>
#include "api/event_stream.h"
#include "core/err.h"

struct api_server;

#define ROUTE_ID_MAX 64		/* bytes of {id}, as id_is_valid() has it */

/* What a handler is given: checked for form, not for meaning. */
struct call {
	struct api_server *server;
	const char *id;		/* of {id} in the path; NULL where there is none */
	const cJSON *body;	/* NULL: none was sent */
	pid_t pid;		/* the caller's; 0: it is not on this node's socket */
	const char *after;	/* query of /v1/events; NULL: not given */
	const char *follow;
};

/* What it gives back: one of json, text and stream. */
struct answer {
	unsigned status;	/* 0 is 200 */
	cJSON *json;
	char *text;
	const char *text_type;
	struct event_stream *stream;
};
void answer_done(struct answer *a);

enum route_body {
	ROUTE_BODY_NONE,
	ROUTE_BODY_EMPTY,	/* none, or an object without keys */
	ROUTE_BODY_OPTIONAL,
	ROUTE_BODY_REQUIRED,
};

/* A negative errno becomes its HTTP status and the error's words. */
typedef int (*route_handler)(const struct call *call, struct answer *ret, struct err **err);

/* What --authorize kubernetes asks of a caller on TCP. */
enum route_right {
	RIGHT_READ,	/* get faults.pgjolt.io in the agents' namespace */
	RIGHT_NONE,	/* the certificate is enough, one for the metrics alone too */
	RIGHT_ARM,	/* create faults.pgjolt.io in the target's namespace */
	RIGHT_KEEP,	/* the same, of an experiment that is there */
	RIGHT_STOP,	/* as reading; the certificate is enough while the API server does not answer */
};

struct route {
	const char *method;
	const char *path;	/* "/v1/experiments/{id}/fire" */
	const char *verb;	/* for the audit; NULL: changes nothing */
	enum route_right right;
	enum route_body body;
	const char *const *query;	/* NULL-terminated names; NULL: none allowed */
	route_handler handle;
};

extern const struct route routes[];
extern const unsigned routes_count;

enum route_result { ROUTE_FOUND, ROUTE_UNKNOWN, ROUTE_WRONG_METHOD };

/*
 * The route of a decoded path; HEAD goes where GET does. {id} is copied to ret_id. With
 * ROUTE_WRONG_METHOD allow holds the methods of that path ("GET, HEAD, POST").
 */
#define ROUTE_ALLOW_MAX 64
enum route_result route_find(const char *method, const char *path, const struct route **ret,
	char ret_id[static ROUTE_ID_MAX + 1], char allow[static ROUTE_ALLOW_MAX]);
/* {"error": {...}, "routes": ["GET /v1/node", ...]} of a path that is none. */
cJSON *route_unknown_to_json(void);

/* NULL, or what is wrong with a raw request target: length, percent-encoding, NUL. */
const char *route_target_problem(const char *target);
/* Percent-decodes in place; leaves a part that is wrong as it is. Returns the new length. */
size_t route_decode(char *s);

/* In handle_node.c */
int handle_node(const struct call *call, struct answer *ret, struct err **err);
int handle_probe(const struct call *call, struct answer *ret, struct err **err);
int handle_instances(const struct call *call, struct answer *ret, struct err **err);
int handle_leave(const struct call *call, struct answer *ret, struct err **err);
int handle_clock(const struct call *call, struct answer *ret, struct err **err);
int handle_health(const struct call *call, struct answer *ret, struct err **err);
int handle_metrics(const struct call *call, struct answer *ret, struct err **err);
int handle_events(const struct call *call, struct answer *ret, struct err **err);
/* In handle_experiment.c */
int handle_list(const struct call *call, struct answer *ret, struct err **err);
int handle_get(const struct call *call, struct answer *ret, struct err **err);
int handle_arm(const struct call *call, struct answer *ret, struct err **err);
int handle_fire(const struct call *call, struct answer *ret, struct err **err);
int handle_renew(const struct call *call, struct answer *ret, struct err **err);
int handle_revert(const struct call *call, struct answer *ret, struct err **err);
int handle_revert_all(const struct call *call, struct answer *ret, struct err **err);
