/*
 * May the caller of a request on TCP have what he asks for (--authorize kubernetes)? His certificate was
 * checked before; here the API server is asked about his token (authorize.h). And whoever asks, is there
 * a place left in the share of the target's cluster (kubeapi/share.h)?
 */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include "core/err.h"

struct api_server;
struct MHD_Connection;
struct route;
struct share_claim;

struct permit {
	unsigned status;	/* 0: he may; else the HTTP status of the refusal: 401, 403, 503 */
	const char *user;	/* "" where not known; printable */
	const char *words;	/* the decision and why; NULL: nothing was asked */
	struct share_claim *claim;	/* for permission_settle(); NULL: none */
};

typedef void (*permit_done)(const struct permit *p, void *data);

/* tls: he came by TCP. id: of the path, or NULL. body: of arm, not kept. done is called once, within or later from the loop. */
void permission_ask(struct api_server *server, struct MHD_Connection *connection,
	bool tls, const struct route *route, const char *id, const cJSON *body, permit_done done, void *data);
/* What was permitted has been done, or not. */
void permission_settle(struct api_server *server, struct share_claim *claim);
