#include <criterion/criterion.h>
#include "api/event_log.h"

static void add(struct event_log *l, const char *text)
{
	struct agent_event e = {.kind = (char *)"state", .text = (char *)text};

	event_log_add(l, &e);
}

Test(event_log, stamps_and_copies)
{
	_cleanup_(event_log_freep) struct event_log *l = event_log_new();
	char text[] = "one";
	const struct agent_event *e;

	cr_assert_null(event_log_after(l, 0));
	cr_assert_eq(event_log_last(l), 0);
	add(l, text);
	text[0] = 'X';
	e = event_log_after(l, 0);
	cr_assert_not_null(e);
	cr_assert_eq(e->sequence, 1);
	cr_assert_neq(e->at_ns, 0);
	cr_assert_str_eq(e->text, "one");
	cr_assert_null(e->experiment);
	cr_assert_null(event_log_after(l, 1));
	cr_assert_null(event_log_after(l, UINT64_MAX));
}

Test(event_log, keeps_a_time_that_is_given)
{
	_cleanup_(event_log_freep) struct event_log *l = event_log_new();
	struct agent_event e = {.at_ns = 77, .kind = (char *)"error", .text = (char *)""};

	event_log_add(l, &e);
	cr_assert_eq(event_log_after(l, 0)->at_ns, 77);
}

Test(event_log, forgets_the_oldest)
{
	_cleanup_(event_log_freep) struct event_log *l = event_log_new();
	uint64_t sequence = 0, seen = 0;
	const struct agent_event *e;

	for (int i = 0; i < EVENT_LOG_KEPT + 10; i++)
		add(l, "x");
	cr_assert_eq(event_log_last(l), EVENT_LOG_KEPT + 10);
	cr_assert_eq(event_log_after(l, 0)->sequence, 11);
	cr_assert_eq(event_log_after(l, 10)->sequence, 11);
	cr_assert_eq(event_log_after(l, 11)->sequence, 12);
	for (; (e = event_log_after(l, sequence)); seen++) {
		cr_assert(e->sequence == sequence + 1 || sequence == 0);
		sequence = e->sequence;
	}
	cr_assert_eq(seen, EVENT_LOG_KEPT);
}

struct follower {
	struct event_log *log;
	unsigned id, told;
	bool leave;
};

static void wake(void *data)
{
	struct follower *f = data;

	f->told++;
	if (f->leave)
		event_log_unfollow(f->log, f->id);
}

Test(event_log, tells_followers_who_may_leave_meanwhile)
{
	_cleanup_(event_log_freep) struct event_log *l = event_log_new();
	struct follower f[3] = {{.log = l}, {.log = l, .leave = true}, {.log = l}};

	for (int i = 0; i < 3; i++)
		f[i].id = event_log_follow(l, wake, &f[i]);
	add(l, "a");
	add(l, "b");
	cr_assert_eq(f[0].told, 2);
	cr_assert_eq(f[1].told, 1);
	cr_assert_eq(f[2].told, 2);
	event_log_unfollow(l, f[0].id);
	event_log_unfollow(l, f[0].id);
	add(l, "c");
	cr_assert_eq(f[0].told, 2);
	cr_assert_eq(f[2].told, 3);
}
