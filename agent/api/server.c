#include "api/server.h"

#include <stdio.h>
#include <string.h>
#include "api/event_log.h"
#include "api/listen.h"
#include "api/server_internal.h"
#include "core/clock.h"
#include "core/log.h"
#include "kubeapi/kubernetes.h"

static void run_all(struct api_server *s)
{
	for (struct listener *l = s->listeners; l; l = l->next)
		listener_run(l);
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

void server_tick_arm(struct api_server *s)
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
	listeners_reap(s);
	if (s->clients.first)
		server_tick_arm(s);
	return 0;
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
	r = listener_new(s, fd, NULL, err);
	if (r == 0 && a->config.listen)
		r = remote_new(s, &s->remote, err);
	if (r < 0)
		return r;
	if (a->config.kubernetes.authorize)
		r = authorizer_new(kubernetes_api(a->kubernetes), a->config.kubernetes.token_audience,
			a->config.kubernetes.authorize_cache_ms, audit_decision, s, &s->authorizer, err);
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

void api_server_free(struct api_server *s)
{
	if (!s)
		return;
	if (s->follow_id)
		event_log_unfollow(s->agent->events, s->follow_id);
	/* Followers get what was told last and a proper end. */
	s->stopping = true;
	authorizer_free(steal_ptr(s->authorizer));
	if (s->agent->kubernetes)
		kubernetes_stop_shares(s->agent->kubernetes);
	for (struct event_stream *e = s->streams; e; e = e->next)
		(void)event_stream_resume(e);
	run_all(s);
	if (s->bound)
		listen_unix_remove(s->agent->config.socket_path, &s->local_id);
	remote_free(s->remote);
	while (s->listeners)
		listener_free(s->listeners);
	sd_event_source_disable_unref(s->wake);
	sd_event_source_disable_unref(s->tick);
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

const char *api_server_where(const struct api_server *s)
{
	return s->remote ? remote_where(s->remote) : NULL;
}
