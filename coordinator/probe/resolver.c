#include "probe/resolver.h"

#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "core/clock.h"
#include "core/json.h"

#define RESOLVE_EVERY_S	  1
#define FIRST_ANSWER_S	  5
#define ADDRESSES_OF_NAME 8

/* Shared with the thread and freed by whoever lets go last: getaddrinfo(3) cannot be interrupted, so
 * the end of a run does not wait for it. */
struct shared {
	pthread_mutex_t lock;
	pthread_cond_t stopped;
	unsigned references;
	bool stop, answered;
	int eventfd;
	char **names;
	char ***addresses;	/* as many as names; NULL: not resolved */
};

struct resolver {
	struct shared *shared;
	sd_event_source *source;
	char **names;
	char ***addresses;	/* the loop's own copy */
	size_t n_names;
	bool answered;
};

static void shared_free(struct shared *s)
{
	for (size_t i = 0; i < strv_length(s->names) && s->addresses; i++)
		strv_free(s->addresses[i]);
	free(s->addresses);
	strv_free(s->names);
	if (s->eventfd >= 0)
		close(s->eventfd);
	pthread_cond_destroy(&s->stopped);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Called with the lock held, which it releases. */
static void shared_release(struct shared *s)
{
	bool last = --s->references == 0;

	pthread_mutex_unlock(&s->lock);
	if (last)
		shared_free(s);
}

static char **resolve_name(const char *name)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *list = NULL;
	char **found = NULL;

	if (getaddrinfo(name, NULL, &hints, &list) != 0)
		return NULL;
	for (struct addrinfo *a = list; a && strv_length(found) < ADDRESSES_OF_NAME; a = a->ai_next) {
		char text[NI_MAXHOST];
		char *copy;

		if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0,
			NI_NUMERICHOST) != 0 || strv_contains(found, text))
			continue;
		copy = strdup(text);
		if (!copy)
			abort();
		strv_push(&found, copy);
	}
	freeaddrinfo(list);
	return found;
}

static void *resolver_thread(void *data)
{
	struct shared *s = data;
	size_t n = strv_length(s->names);

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		struct timespec until;

		for (size_t i = 0; i < n && !s->stop; i++) {
			char **found;

			pthread_mutex_unlock(&s->lock);
			found = resolve_name(s->names[i]);
			pthread_mutex_lock(&s->lock);
			/* A name service that is down takes nothing away from what is known. */
			if (found) {
				strv_free(s->addresses[i]);
				s->addresses[i] = found;
			}
		}
		s->answered = true;
		eventfd_write(s->eventfd, 1);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += RESOLVE_EVERY_S;
		while (!s->stop && pthread_cond_timedwait(&s->stopped, &s->lock, &until) == 0)
			;
	}
	shared_release(s);
	return NULL;
}

static int on_answer(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct resolver *r = data;
	struct shared *s = r->shared;
	eventfd_t count;

	(void)source;
	(void)events;
	if (eventfd_read(fd, &count) < 0)
		return 0;
	pthread_mutex_lock(&s->lock);
	r->answered = s->answered;
	for (size_t i = 0; i < r->n_names; i++) {
		strv_free(r->addresses[i]);
		r->addresses[i] = strv_copy(s->addresses[i]);
	}
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static void collect_names(const struct pg_endpoints *lists, size_t n_lists, char ***ret)
{
	for (size_t i = 0; i < n_lists; i++)
		for (size_t k = 0; k < lists[i].count; k++) {
			const struct pg_endpoint *e = &lists[i].items[k];
			char *copy;

			if (e->address || e->socket || strv_contains(*ret, e->host))
				continue;
			copy = strdup(e->host);
			if (!copy)
				abort();
			strv_push(ret, copy);
		}
}

static int start_thread(struct shared *s, struct err **err)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int r;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	s->references++;
	r = pthread_create(&thread, &attributes, resolver_thread, s);
	pthread_attr_destroy(&attributes);
	if (r != 0) {
		s->references--;
		return err_errno(err, -r, "resolver: thread");
	}
	return 0;
}

static struct shared *shared_new(char *const *names)
{
	struct shared *s = calloc(1, sizeof(*s));
	pthread_condattr_t monotonic;

	if (!s)
		return NULL;
	s->references = 1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->stopped, &monotonic);
	pthread_condattr_destroy(&monotonic);
	s->names = strv_copy(names);
	s->addresses = calloc(strv_length(names) + 1, sizeof(*s->addresses));
	s->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!s->addresses || s->eventfd < 0) {
		shared_free(s);
		return NULL;
	}
	return s;
}

int resolver_new(sd_event *event, const struct pg_endpoints *lists, size_t n_lists,
	struct resolver **ret, struct err **err)
{
	_cleanup_(resolver_freep) struct resolver *r = calloc(1, sizeof(*r));
	uint64_t deadline = now_ns() + FIRST_ANSWER_S * NS_PER_S;
	int e;

	if (!r)
		return err_errno(err, -ENOMEM, "resolver");
	collect_names(lists, n_lists, &r->names);
	r->n_names = strv_length(r->names);
	if (r->n_names > 0) {
		r->addresses = calloc(r->n_names, sizeof(*r->addresses));
		r->shared = r->addresses ? shared_new(r->names) : NULL;
		if (!r->shared)
			return err_errno(err, -ENOMEM, "resolver");
		e = sd_event_add_io(event, &r->source, r->shared->eventfd, EPOLLIN, on_answer, r);
		if (e < 0)
			return err_errno(err, e, "resolver");
		e = start_thread(r->shared, err);
		if (e < 0)
			return e;
		while (!r->answered && now_ns() < deadline) {
			e = sd_event_run(event, 100 * 1000);
			if (e < 0)
				return err_errno(err, e, "resolver: event loop");
		}
	}
	*ret = steal_ptr(r);
	return 0;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	sd_event_source_disable_unref(r->source);
	if (r->shared) {
		pthread_mutex_lock(&r->shared->lock);
		r->shared->stop = true;
		pthread_cond_signal(&r->shared->stopped);
		shared_release(r->shared);
	}
	for (size_t i = 0; i < r->n_names && r->addresses; i++)
		strv_free(r->addresses[i]);
	free(r->addresses);
	strv_free(r->names);
	free(r);
}

const char *resolver_address(const struct resolver *r, const char *name, size_t k)
{
	for (size_t i = 0; i < r->n_names; i++)
		if (strcmp(r->names[i], name) == 0)
			return k < strv_length(r->addresses[i]) ? r->addresses[i][k] : NULL;
	return NULL;
}
