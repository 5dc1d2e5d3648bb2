#include "api/event_log.h"

#include <string.h>
#include "core/clock.h"

struct follower {
	unsigned id;
	void (*wake)(void *data);
	void *data;
};

struct event_log {
	struct agent_event *ring[EVENT_LOG_KEPT];	/* event s is at s % EVENT_LOG_KEPT */
	uint64_t last;
	struct follower *followers;
	size_t n_followers;
	unsigned last_id;
};

struct event_log *event_log_new(void)
{
	struct event_log *l = calloc(1, sizeof(*l));

	if (!l)
		abort();
	return l;
}

void event_log_free(struct event_log *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < EVENT_LOG_KEPT; i++)
		agent_event_free(l->ring[i]);
	free(l->followers);
	free(l);
}

/* As in core/json.h: without memory an event must not be lost in silence. */
static char *copy_text(const char *s)
{
	char *copy = s ? strdup(s) : NULL;

	if (s && !copy)
		abort();
	return copy;
}

void event_log_add(struct event_log *l, const struct agent_event *e)
{
	struct agent_event *copy = calloc(1, sizeof(*copy));
	struct agent_event **slot;

	if (!copy)
		abort();
	copy->sequence = ++l->last;
	copy->at_ns = e->at_ns ? e->at_ns : now_ns();
	copy->kind = copy_text(e->kind);
	copy->experiment = copy_text(e->experiment);
	copy->instance = copy_text(e->instance);
	copy->state = copy_text(e->state);
	copy->text = copy_text(e->text);
	slot = &l->ring[l->last % EVENT_LOG_KEPT];
	agent_event_free(*slot);
	*slot = copy;
	/* Backwards, since a follower may leave while it is told. */
	for (size_t i = l->n_followers; i-- > 0;)
		if (i < l->n_followers)
			l->followers[i].wake(l->followers[i].data);
}

const struct agent_event *event_log_after(const struct event_log *l, uint64_t sequence)
{
	uint64_t oldest = l->last >= EVENT_LOG_KEPT ? l->last - EVENT_LOG_KEPT + 1 : 1;

	if (sequence >= l->last)
		return NULL;
	if (sequence + 1 < oldest)
		return l->ring[oldest % EVENT_LOG_KEPT];
	return l->ring[(sequence + 1) % EVENT_LOG_KEPT];
}

uint64_t event_log_last(const struct event_log *l)
{
	return l->last;
}

unsigned event_log_follow(struct event_log *l, void (*wake)(void *data), void *data)
{
	struct follower *more = reallocarray(l->followers, l->n_followers + 1, sizeof(*more));

	if (!more)
		abort();
	l->followers = more;
	l->followers[l->n_followers++] = (struct follower){++l->last_id, wake, data};
	return l->last_id;
}

void event_log_unfollow(struct event_log *l, unsigned id)
{
	for (size_t i = 0; i < l->n_followers; i++) {
		if (l->followers[i].id != id)
			continue;
		l->n_followers--;
		memmove(&l->followers[i], &l->followers[i + 1],
			(l->n_followers - i) * sizeof(*l->followers));
		return;
	}
}
