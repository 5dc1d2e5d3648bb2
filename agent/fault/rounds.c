#include "fault/rounds.h"

#include <errno.h>
#include "core/clock.h"

/* The instance may be down just now, by this very fault: what it starts anew is for a later round. */
static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct rounds *r = data;
	struct err *why = NULL;

	(void)usec;
	r->count++;
	if (r->strike(r->data, &why) < 0 && !why)
		err_set(&why, EIO, "a round failed");
	err_free(r->last);
	r->last = why;
	if (sd_event_source_set_time_relative(source, r->every_ns / NS_PER_US) >= 0)
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

int rounds_begin(struct rounds *r, const struct node *node, struct err **err)
{
	struct err *why = NULL;
	int code;

	r->count++;
	code = r->strike(r->data, &why);
	if (code == -ESTALE || code == -ENOENT) {
		r->last = steal_ptr(why);
		code = 0;
	}
	if (code < 0) {
		code = err_set(err, code, "%s", err_text(why));
		err_free(why);
		return code;
	}
	if (r->every_ns == 0)
		return 0;
	code = sd_event_add_time_relative(node->event, &r->timer, CLOCK_MONOTONIC,
		r->every_ns / NS_PER_US, NS_PER_MS / NS_PER_US, on_timer, r);
	return code < 0 ? err_errno(err, code, "set the timer of the next round") : 0;
}

void rounds_done(struct rounds *r)
{
	r->timer = sd_event_source_disable_unref(r->timer);
	err_free(r->last);
	r->last = NULL;
}
