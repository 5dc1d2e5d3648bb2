/*
 * May the caller of a request on TCP have what he asks for (--authorize kubernetes)? His certificate was
 * checked before; here the API server is asked about his token (authorize.h).
 */
#pragma once

#include <cjson/cJSON.h>
#include "core/err.h"

struct api_server;
struct MHD_Connection;
struct route;

struct permit {
	unsigned status;	/* 0: he may; else the HTTP status of the refusal: 401, 403, 503 */
	const char *user;	/* "" where not known; printable */
	const char *words;	/* the decision and why; NULL: nothing was asked */
};

typedef void (*permit_done)(const struct permit *p, void *data);

/* id: of the path, or NULL. body: of arm. done is called once, within or later from the loop. */
void permission_ask(struct api_server *server, struct MHD_Connection *connection,
	const struct route *route, const char *id, const cJSON *body, permit_done done, void *data);
