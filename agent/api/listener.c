/* libmicrohttpd's daemons: one for the unix socket, one for TLS, and those of TLS files that were replaced. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "api/route.h"
#include "api/server_internal.h"
#include "core/clock.h"
#include "core/log.h"

#define CONNECTION_MEMORY_BYTES 32768	/* request line and headers, and what is read at once */
#define CONNECTIONS_OF_ADDRESS	32
#define RUNS_AT_ONCE		16	/* then the loop's other sources have their turn */
#define RETIRED_MAX		4	/* daemons of replaced TLS files; the connections of older ones are shut */

void listener_run(struct listener *l)
{
	unsigned long long wait_ms;
	int r;

	for (int i = 0; i < RUNS_AT_ONCE; i++) {
		unsigned before = l->server->clients.count;

		MHD_run(l->daemon);
		/* At its limit the daemon stops listening, and only a run that begins below it listens
		 * again; nothing else would wake us for that. */
		wait_ms = 0;
		if (l->server->clients.count < before)
			continue;
		if (MHD_get_timeout(l->daemon, &wait_ms) != MHD_YES) {
			(void)sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
			return;
		}
		if (wait_ms > 0)
			break;
	}
	r = sd_event_source_set_time(l->timer, now_ns() / NS_PER_US + wait_ms * 1000);
	if (r >= 0)
		r = sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
	if (r < 0)
		log_error("server's timer: %s", strerror(-r));
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	(void)source;
	(void)fd;
	(void)revents;
	listener_run(data);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	listener_run(data);
	return 0;
}

static void on_log(void *cls, const char *format, va_list arguments)
{
	char text[256];

	(void)cls;
	/* Only what clients do wrong; the format is the library's own. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	vsnprintf(text, sizeof(text), format, arguments);
#pragma GCC diagnostic pop
	text[strcspn(text, "\r\n")] = '\0';
	log_debug("http: %s", text);
}

static size_t on_unescape(void *cls, struct MHD_Connection *connection, char *s)
{
	(void)cls;
	(void)connection;
	return route_decode(s);
}

static int listener_watch(struct listener *l, sd_event *event, struct err **err)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int r;

	if (!info)
		return err_set(err, -EIO, "HTTP server: no epoll descriptor");
	r = sd_event_add_io(event, &l->io, info->epoll_fd, EPOLLIN, on_io, l);
	if (r >= 0)
		r = sd_event_add_time(event, &l->timer, CLOCK_MONOTONIC, 0, 1, on_timer, l);
	if (r >= 0)
		r = sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
	if (r < 0)
		return err_errno(err, r, "HTTP server: watch its descriptor");
	return 0;
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
	enum MHD_ConnectionNotificationCode what)
{
	struct listener *l = cls;
	struct api_server *s = l->server;
	const union MHD_ConnectionInfo *info;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		for (struct event_stream *e = s->streams; e; e = e->next)
			if (e->client == *context)
				e->client = NULL;
		client_free(&s->clients, *context);
		*context = NULL;
		return;
	}
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	if (!info)
		return;
	*context = client_new(&s->clients, info->connect_fd, l);
	if (s->clients.count == 1)
		server_tick_arm(s);
}

static struct MHD_Daemon *daemon_start(struct listener *l, int fd, const struct tls_files *tls)
{
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls_options[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, tls ? tls->certificate : NULL},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, tls ? tls->key : NULL},
		{MHD_OPTION_HTTPS_MEM_TRUST, 0, tls ? tls->ca : NULL},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, (char *)TLS_PRIORITIES},
		{MHD_OPTION_PER_IP_CONNECTION_LIMIT, CONNECTIONS_OF_ADDRESS, NULL},
		{MHD_OPTION_END, 0, NULL},
	};
	struct MHD_OptionItem no_options[] = {{MHD_OPTION_END, 0, NULL}};

	if (tls)
		flags |= MHD_USE_TLS;
	return MHD_start_daemon(flags, 0, NULL, NULL, request_handle, l,
		MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)SERVER_CLIENTS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, 0U,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
		MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_URI_LOG_CALLBACK, request_begin, l,
		MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL,
		MHD_OPTION_NOTIFY_COMPLETED, request_end, l,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, l,
		MHD_OPTION_ARRAY, tls ? tls_options : no_options,
		MHD_OPTION_END);
}

int listener_new(struct api_server *s, int fd, const struct tls_files *tls, struct err **err)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r;

	if (!l) {
		close(fd);
		return err_errno(err, -ENOMEM, "HTTP server");
	}
	l->server = s;
	l->tls = tls != NULL;
	l->next = s->listeners;
	s->listeners = l;
	l->daemon = daemon_start(l, fd, tls);
	r = l->daemon ? listener_watch(l, s->agent->event, err) :
			err_set(err, -EIO, "HTTP server on %s: libmicrohttpd refuses to start",
				tls ? s->agent->config.listen : s->agent->config.socket_path);
	if (r < 0)
		listener_free(l);
	return r;
}

void listener_free(struct listener *l)
{
	struct listener **place = &l->server->listeners;

	while (*place != l)
		place = &(*place)->next;
	*place = l->next;
	sd_event_source_disable_unref(l->io);
	sd_event_source_disable_unref(l->timer);
	if (l->daemon)
		MHD_stop_daemon(l->daemon);
	free(l);
}

/* The TLS files in the daemon are fixed: a new one takes the socket over, and the old one ends with
 * its last connection. */
int listener_replace(struct api_server *s, const struct tls_files *tls, struct err **err)
{
	const union MHD_DaemonInfo *info;
	struct listener *old = s->listeners;
	unsigned retired = 0;
	int fd, r;

	while (old && (!old->tls || old->retired))
		old = old->next;
	info = old ? MHD_get_daemon_info(old->daemon, MHD_DAEMON_INFO_LISTEN_FD) : NULL;
	fd = info ? fcntl(info->listen_fd, F_DUPFD_CLOEXEC, 0) : -1;
	if (fd < 0)
		return err_errno(err, errno, "take the listening socket over");
	r = listener_new(s, fd, tls, err);
	if (r < 0)
		return r;
	closep(&(int){MHD_quiesce_daemon(old->daemon)});
	old->retired = true;
	for (struct listener *l = s->listeners; l; l = l->next)
		if (l->retired && ++retired > RETIRED_MAX)
			client_list_shut(&s->clients, l);
	return 0;
}

void listeners_reap(struct api_server *s)
{
	struct listener *next;

	for (struct listener *l = s->listeners; l; l = next) {
		const union MHD_DaemonInfo *info;

		next = l->next;
		if (!l->retired)
			continue;
		info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
		if (info && info->num_connections == 0)
			listener_free(l);
	}
}
