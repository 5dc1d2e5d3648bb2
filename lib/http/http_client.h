/*
 * HTTP on the loop: libcurl's multi interface (libcurl-multi(3)) inside sd-event. Serves the agents
 * (unix socket or mutual TLS) and the managers' REST APIs. Connections are kept warm.
 */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "core/err.h"

struct http_client;

struct http_tls {
	char *ca, *cert, *key;	/* PEM files, read at each new connection; NULL: the system's */
	/* The name that the server's certificate must bear where the URL has an address; NULL: the URL's. */
	char *server_name;
};

struct http_request {
	const char *method;		/* "GET", "POST" */
	const char *url;		/* for a unix socket "http://localhost/..." */
	const char *unix_socket;	/* NULL: TCP */
	const struct http_tls *tls;	/* NULL: none */
	const char *token;		/* sent as "Authorization: Bearer"; NULL: none. Never logged */
	const char *body;		/* JSON; NULL: none. Copied. */
	const char *content_type;	/* of the body; NULL: application/json */
	uint64_t connect_timeout_ms;	/* 0: 1000 */
	uint64_t timeout_ms;		/* whole call; 0: 5000; UINT64_MAX: none (streams) */
	/* A streamed answer: called for each whole line; the answer's body is then empty. */
	void (*line)(const char *line, size_t length, void *data);
};

struct http_answer {
	int error;		/* 0, or a negative errno when there was no HTTP answer; never -ENOENT */
	const char *error_text;	/* with error */
	int status;		/* HTTP */
	const char *body;	/* NUL-terminated */
	size_t length;		/* at most 16 MiB, more is an error */
	uint64_t sent_ns, done_ns;	/* now_ns() around the call */
};

typedef void (*http_done)(const struct http_answer *a, void *data);

int http_client_new(sd_event *event, struct http_client **ret, struct err **err);
/* Pending calls end without their callback. */
void http_client_free(struct http_client *c);
/* The loop that it was given; borrowed. */
sd_event *http_client_event(const struct http_client *c);

/* For who waits: one turn of the loop, to end_ns (now_ns(); UINT64_MAX: none) at most. -ECANCELED: nothing
 * is waited for any longer. */
int http_client_turn(struct http_client *c, uint64_t end_ns, struct err **err);
/* From then (now_ns()) on: who is in a hurry takes what is there by then. */
void http_client_give_up_at(struct http_client *c, uint64_t at_ns);

struct http_call;
/* done is called once, from the loop, never from within. *ret_call (may be NULL) is valid until then. */
int http_start(struct http_client *c, const struct http_request *r, http_done done, void *data,
	struct http_call **ret_call, struct err **err);
/* Ends it without its callback. */
void http_cancel(struct http_call *call);

/* Runs the loop until the answer is there. *ret_json (may be NULL): parsed body, caller deletes.
 * An HTTP status >= 400 is an error with the words of the body. */
int http_wait(struct http_client *c, const struct http_request *r, int *ret_status,
	cJSON **ret_json, struct err **err);
