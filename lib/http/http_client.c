/* libcurl's multi interface on the loop. */
#include "http_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/clock.h"

static void client_reap(struct http_client *c)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(c->multi, &left))) {
		struct http_call *call = NULL;
		CURLcode code = m->data.result;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&call);
		if (call)
			call_finish(call, code);
	}
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *data)
{
	struct http_client *c = data;
	int action = 0, running;

	(void)s;
	if (revents & (EPOLLIN | EPOLLHUP))
		action |= CURL_CSELECT_IN;
	if (revents & EPOLLOUT)
		action |= CURL_CSELECT_OUT;
	if (revents & EPOLLERR)
		action |= CURL_CSELECT_ERR;
	curl_multi_socket_action(c->multi, fd, action, &running);
	client_reap(c);
	return 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *data)
{
	struct http_client *c = data;
	int running;

	(void)s;
	(void)usec;
	curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	client_reap(c);
	return 0;
}

/* libcurl tells of a socket's end after it closed it, when its number may be another's already: so the
 * watch goes at the closing itself, and is found by the number. */
static void watch_end(struct http_client *c, int fd)
{
	if ((size_t)fd < c->n_watches)
		c->watches[fd] = sd_event_source_disable_unref(c->watches[fd]);
}

int curl_socket_close(void *data, curl_socket_t fd)
{
	watch_end(data, fd);
	return close(fd);
}

static bool watches_grow(struct http_client *c, int fd)
{
	size_t n = (size_t)fd + 16;
	sd_event_source **more;

	if ((size_t)fd < c->n_watches)
		return true;
	more = reallocarray(c->watches, n, sizeof(*more));
	if (!more)
		return false;
	memset(more + c->n_watches, 0, (n - c->n_watches) * sizeof(*more));
	c->watches = more;
	c->n_watches = n;
	return true;
}

/* A failure here would make libcurl give up every call for good. */
static int curl_socket_changed(CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data)
{
	struct http_client *c = data;
	uint32_t events = 0;

	(void)easy;
	(void)socket_data;
	if (what == CURL_POLL_REMOVE) {
		watch_end(c, fd);
		return 0;
	}
	if (what & CURL_POLL_IN)
		events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		events |= EPOLLOUT;
	if (!watches_grow(c, fd))
		return -1;
	if (c->watches[fd] && sd_event_source_set_io_events(c->watches[fd], events) >= 0)
		return 0;
	watch_end(c, fd);
	return sd_event_add_io(c->event, &c->watches[fd], fd, events, on_io, c) < 0 ? -1 : 0;
}

static int curl_timer_changed(CURLM *multi, long timeout_ms, void *data)
{
	struct http_client *c = data;

	(void)multi;
	if (timeout_ms < 0)
		return sd_event_source_set_enabled(c->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
	if (sd_event_source_set_time(c->timer,
		    now_ns() / NS_PER_US + (uint64_t)timeout_ms * 1000) < 0)
		return -1;
	return sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT) < 0 ? -1 : 0;
}

int http_client_new(sd_event *event, struct http_client **ret, struct err **err)
{
	struct http_client *c;
	int r;

	if (curl_global_init(CURL_GLOBAL_DEFAULT))
		return err_set(err, -ENOMEM, "cannot load and start libcurl (libcurl.so.4)");
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->event = sd_event_ref(event);
	c->multi = curl_multi_init();
	/* Accuracy 0 would mean 250 ms. */
	r = sd_event_add_time(event, &c->timer, CLOCK_MONOTONIC, 0, 1, on_timer, c);
	if (!c->multi || r < 0) {
		http_client_free(c);
		return err_set(err, r < 0 ? r : -ENOMEM, "cannot set up the HTTP client");
	}
	sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, curl_socket_changed);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, curl_timer_changed);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	*ret = c;
	return 0;
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	while (c->calls)
		call_free(c->calls);
	if (c->multi)
		curl_multi_cleanup(c->multi);
	if (c->timer)
		sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
	sd_event_source_unref(c->timer);
	for (size_t i = 0; i < c->n_watches; i++)
		sd_event_source_disable_unref(c->watches[i]);
	free(c->watches);
	sd_event_unref(c->event);
	free(c);
}

sd_event *http_client_event(const struct http_client *c)
{
	return c->event;
}
