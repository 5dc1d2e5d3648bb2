/* What the server's own files share. */
#pragma once

#include <microhttpd.h>
#include <systemd/sd-event.h>
#include <sys/stat.h>
#include "agent.h"
#include "api/audit.h"
#include "api/client.h"
#include "api/event_stream.h"
#include "api/metrics.h"
#include "api/remote.h"
#include "api/server.h"
#include "api/tls.h"

#define SERVER_CLIENTS_MAX   64		/* connections on each of the two sockets */
#define SERVER_FOLLOWERS_MAX 32
#define SERVER_BODY_MAX	     (1UL << 20)
#define SERVER_TICK_MS	     2500	/* time limits and heartbeats, while there are connections */

/* One libmicrohttpd daemon in external epoll mode. */
struct listener {
	struct api_server *server;
	struct MHD_Daemon *daemon;
	sd_event_source *io, *timer;
	bool tls;
	bool retired;			/* its TLS files were replaced: takes no new connection */
	struct listener *next;
};

/* Takes fd, also on failure: libmicrohttpd closes it with the daemon. tls NULL: the unix socket. */
int listener_new(struct api_server *s, int fd, const struct tls_files *tls, struct err **err);
void listener_free(struct listener *l);
/* Runs the daemon until it waits for the network. */
void listener_run(struct listener *l);
/* New connections get these TLS files; those there are go on, and end as they become idle. */
int listener_replace(struct api_server *s, const struct tls_files *tls, struct err **err);
/* Ends those that were replaced and have no connection left. */
void listeners_reap(struct api_server *s);

struct api_server {
	struct agent *agent;
	struct listener *listeners;	/* the newest first */
	struct remote *remote;		/* NULL: no TCP */
	struct stat local_id;
	bool bound;			/* local_id is that of config.socket_path */
	struct client_list clients;
	struct event_stream *streams;
	unsigned n_followers;
	sd_event_source *wake;		/* there are new events */
	sd_event_source *tick;
	unsigned follow_id;
	struct metrics metrics;
	struct audit_window refusals;
	struct authorizer *authorizer;	/* NULL: certificates alone */
	bool stopping;
};

/* Time limits and heartbeats: runs by itself while there are connections. */
void server_tick_arm(struct api_server *s);
/* An agent that its owner has done with leaves when nobody else uses it. */
void server_leave_if_unused(struct api_server *s);

/* libmicrohttpd's callbacks of one request (request.c); cls is the listener. */
void *request_begin(void *cls, const char *target, struct MHD_Connection *connection);
enum MHD_Result request_handle(void *cls, struct MHD_Connection *connection, const char *path,
	const char *method, const char *version, const char *data, size_t *length, void **state);
void request_end(void *cls, struct MHD_Connection *connection, void **state,
	enum MHD_RequestTerminationCode why);
