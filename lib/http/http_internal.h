/* Between the files of the HTTP client. */
#pragma once

#include <curl/curl.h>

#include "http/http_client.h"

struct http_call {
	struct http_client *client;
	struct http_call *prev, *next;
	CURL *easy;
	struct curl_slist *headers, *connect_to;
	char *body_sent;
	http_done done;
	void *data;
	void (*line)(const char *line, size_t length, void *data);
	char *text;			/* the answer, or the unfinished line of a stream */
	size_t length, capacity;
	bool too_long, unix_socket;
	uint64_t sent_ns;
	char error[CURL_ERROR_SIZE];
	/* A callback of ours is on the stack: the call must not be freed under curl's feet. */
	bool in_callback, cancelled;
};

struct http_client {
	sd_event *event;
	CURLM *multi;
	sd_event_source *timer;
	struct http_call *calls;
	sd_event_source **watches;	/* by descriptor */
	size_t n_watches;
	uint64_t give_up_ns;		/* 0: waits as long as it takes */
};

/* http_call.c */
void call_free(struct http_call *call);
/* Tells its listener, and frees it. */
void call_finish(struct http_call *call, CURLcode code);

/* CURLOPT_CLOSESOCKETFUNCTION of every call; data is the client. */
int curl_socket_close(void *data, curl_socket_t fd);
