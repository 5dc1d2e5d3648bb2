#include "api/server.h"

#include <stdio.h>
#include <string.h>
#include "api/event_log.h"
#include "api/listen.h"
#include "api/route.h"
#include "api/server_internal.h"
#include "core/clock.h"
#include "core/log.h"

#define CONNECTION_MEMORY_BYTES 32768	/* request line and headers, and what is read at once */
#define CONNECTIONS_OF_ADDRESS	32
#define RUNS_AT_ONCE		16	/* then the loop's other sources have their turn */

/* Runs the daemon until it waits for the network. */
static void listener_run(struct listener *l)
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

static void run_all(struct api_server *s)
{
	if (s->local.daemon)
		listener_run(&s->local);
	if (s->remote.daemon)
		listener_run(&s->remote);
}

/* event_log calls this within whatever told the event: only a mark is set. */
static void on_event(void *data)
{
	struct api_server *s = data;

	(void)sd_event_source_set_enabled(s->wake, SD_EVENT_ONESHOT);
}

static int on_wake(sd_event_source *source, void *data)
{
	struct api_server *s = data;
	bool resumed = false;

	(void)source;
	metrics_count_ended(s);
	for (struct event_stream *e = s->streams; e; e = e->next)
		resumed = event_stream_resume(e) || resumed;
	if (resumed)
		run_all(s);
	return 0;
}

static void tick_arm(struct api_server *s)
{
	int r = sd_event_source_set_time_relative(s->tick, SERVER_TICK_MS * 1000ULL);

	if (r >= 0)
		r = sd_event_source_set_enabled(s->tick, SD_EVENT_ONESHOT);
	if (r < 0)
		log_error("server's time limits: %s", strerror(-r));
}

static int on_tick(sd_event_source *source, uint64_t usec, void *data)
{
	struct api_server *s = data;
	uint64_t now = now_ns();
	bool run = false;

	(void)source;
	(void)usec;
	for (struct event_stream *e = s->streams; e; e = e->next)
		if (event_stream_beat(e, now))
			run = event_stream_resume(e) || run;
	if (client_list_expire(&s->clients, now) > 0)
		run = true;
	if (run)
		run_all(s);
	if (s->clients.first)
		tick_arm(s);
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
	*context = client_new(&s->clients, info->connect_fd);
	if (s->clients.count == 1)
		tick_arm(s);
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

/* Takes fd, also on failure: libmicrohttpd closes it with the daemon. */
static int listener_start(struct listener *l, struct api_server *s, int fd, bool tls,
	struct err **err)
{
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls_options[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, s->tls.certificate},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, s->tls.key},
		{MHD_OPTION_HTTPS_MEM_TRUST, 0, s->tls.ca},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, (char *)TLS_PRIORITIES},
		{MHD_OPTION_PER_IP_CONNECTION_LIMIT, CONNECTIONS_OF_ADDRESS, NULL},
		{MHD_OPTION_END, 0, NULL},
	};
	struct MHD_OptionItem no_options[] = {{MHD_OPTION_END, 0, NULL}};

	l->server = s;
	l->tls = tls;
	if (tls)
		flags |= MHD_USE_TLS;
	l->daemon = MHD_start_daemon(flags, 0, NULL, NULL, request_handle, l,
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
	if (!l->daemon)
		return err_set(err, -EIO, "HTTP server on %s: libmicrohttpd refuses to start",
			tls ? s->agent->config.listen : s->agent->config.socket_path);
	return listener_watch(l, s->agent->event, err);
}

static int start_remote(struct api_server *s, struct err **err)
{
	const struct agent_config *c = &s->agent->config;
	int r, fd;

	if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
		return err_set(err, -EOPNOTSUPP, "listen %s: libmicrohttpd was built without TLS",
			c->listen);
	r = tls_files_load(c->tls_cert, c->tls_key, c->tls_ca, &s->tls, err);
	if (r < 0)
		return r;
	r = listen_tcp(c->listen, &fd, err);
	if (r < 0)
		return r;
	return listener_start(&s->remote, s, fd, true, err);
}

static int start(struct api_server *s, struct err **err)
{
	struct agent *a = s->agent;
	int r, fd;

	r = sd_event_add_defer(a->event, &s->wake, on_wake, s);
	if (r >= 0)
		r = sd_event_source_set_enabled(s->wake, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(a->event, &s->tick, CLOCK_MONOTONIC, 0, 1, on_tick, s);
	if (r >= 0)
		r = sd_event_source_set_enabled(s->tick, SD_EVENT_OFF);
	if (r < 0)
		return err_errno(err, r, "HTTP server: event loop");
	r = listen_unix(a->config.socket_path, &fd, &s->local_id, err);
	if (r < 0)
		return r;
	s->bound = true;
	r = listener_start(&s->local, s, fd, false, err);
	if (r == 0 && a->config.listen)
		r = start_remote(s, err);
	if (r < 0)
		return r;
	s->follow_id = event_log_follow(a->events, on_event, s);
	return 0;
}

int api_server_new(struct agent *agent, struct api_server **ret, struct err **err)
{
	struct api_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_errno(err, -ENOMEM, "HTTP server");
	s->agent = agent;
	r = start(s, err);
	if (r < 0) {
		api_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void listener_stop(struct listener *l)
{
	sd_event_source_disable_unref(l->io);
	sd_event_source_disable_unref(l->timer);
	if (l->daemon)
		MHD_stop_daemon(l->daemon);
	*l = (struct listener){0};
}

void api_server_free(struct api_server *s)
{
	if (!s)
		return;
	if (s->follow_id)
		event_log_unfollow(s->agent->events, s->follow_id);
	/* Followers get what was told last and a proper end. */
	s->stopping = true;
	for (struct event_stream *e = s->streams; e; e = e->next)
		(void)event_stream_resume(e);
	run_all(s);
	if (s->bound)
		listen_unix_remove(s->agent->config.socket_path, &s->local_id);
	listener_stop(&s->local);
	listener_stop(&s->remote);
	sd_event_source_disable_unref(s->wake);
	sd_event_source_disable_unref(s->tick);
	tls_files_done(&s->tls);
	free(s);
}

bool api_server_is_used(const struct api_server *s)
{
	for (const struct event_stream *e = s->streams; e; e = e->next)
		if (e->follow && (!e->pid || e->pid != s->agent->config.owner))
			return true;
	return false;
}

void server_leave_if_unused(struct api_server *s)
{
	if (s->agent->owner_ended && !s->stopping && !api_server_is_used(s))
		sd_event_exit(s->agent->event, 0);
}
