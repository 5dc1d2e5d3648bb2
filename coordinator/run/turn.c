/* One turn of a run: what has come is shown, what is due is asked, what would abort it is looked at. */
#include "run/run.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/text.h"
#include "core/units.h"
#include "report/report.h"
#include "run/timeline.h"

void run_note(struct run *r, enum event_kind kind, int instance, const char *value,
	const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = text_vformat(fmt, ap);
	va_end(ap);
	run_record_add_event(r->record, now_ns(), kind, instance, value, 0, "%s", text);
}

void run_abort(struct run *r, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = text_vformat(fmt, ap);
	va_end(ap);
	if (r->abort_why)
		return;
	r->abort_why = steal_ptr(text);
	run_note(r, EVENT_ABORT, -1, "abort", "aborting: %s", r->abort_why);
}

void run_abort_more(struct run *r, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL, *why = steal_ptr(r->abort_why);
	va_list ap;

	va_start(ap, fmt);
	text = text_vformat(fmt, ap);
	va_end(ap);
	r->abort_why = text_format("%s%s%s", why ? why : "", why ? "; " : "", text);
}

void run_show(struct run *r)
{
	char status[160], since[UNITS_TEXT_MAX];
	uint64_t now = now_ns();

	for (; r->events_shown < r->record->n_events; r->events_shown++) {
		const struct run_event *e = &r->record->events[r->events_shown];

		if (r->events_file) {
			_cleanup_json_ cJSON *json = run_event_to_json(r->record, e);
			_cleanup_free_ char *line = json_print(json);

			if (fprintf(r->events_file, "%s\n", line) < 0 ||
				fflush(r->events_file)) {
				fclose(r->events_file);
				r->events_file = NULL;
				run_abort(r, "events.jsonl: %s", strerror(errno));
			}
		}
		if (r->timeline)
			timeline_event(r->timeline, r->record, e);
	}
	if (!r->timeline)
		return;
	if (!r->write_ok_ns) {
		timeline_status(r->timeline, "Ctrl-C reverts everything.");
		return;
	}
	duration_human(now - r->write_ok_ns, since);
	snprintf(status, sizeof(status), "%8.1f s   last acknowledged write %s ago   %zu attempts",
		(double)(now - r->record->started_ns) / 1e9, since, r->record->n_attempts);
	timeline_status(r->timeline, status);
}

static void check_aborts(struct run *r)
{
	const struct drill *d = r->drill;
	uint64_t since_ns = r->write_ok_ns ? r->write_ok_ns : r->record->started_ns;
	uint64_t now = now_ns();

	if (r->aborted)
		return;
	if (d->abort_time_ns && now - r->record->started_ns > d->abort_time_ns)
		run_abort(r, "the drill took longer than its abort.time");
	if (d->abort_lag_bytes && run_lag_bytes(r) > d->abort_lag_bytes)
		run_abort(r, "a replica lags by more than abort.lag");
	if (d->abort_writes_down_ns && r->write_failing && now - since_ns > d->abort_writes_down_ns)
		run_abort(r, "writes were down for longer than abort.writesDown");
}

int run_turn(struct run *r, uint64_t timeout_ns, struct err **err)
{
	int k = sd_event_run(r->session->event, timeout_ns / NS_PER_US);

	if (k < 0)
		return err_errno(err, k, "event loop");
	run_check_agents(r);
	for (size_t i = 0; i < r->n_experiments; i++) {
		struct run_experiment *e = r->experiments[i];

		/* One question at a time, and none while an answer is on its way. */
		if (e->stale && !e->ended && !e->fire_pending && !e->revert_pending &&
			!run_agent_is_lost(r, e->link)) {
			e->stale = false;
			run_ask(r, e);
		}
	}
	check_aborts(r);
	run_check_gone(r);
	run_show(r);
	return 0;
}

int run_wait(struct run *r, bool (*holds)(struct run *r, void *data), void *data,
	uint64_t limit_ns, struct err **err)
{
	uint64_t end = now_ns() + limit_ns;

	while (!holds(r, data)) {
		int k;

		if (r->abort_why)
			return err_set(err, -ECANCELED, "%s", r->abort_why);
		if (now_ns() >= end)
			return err_set(err, -ETIMEDOUT, "not within the limit");
		k = run_turn(r, 20 * NS_PER_MS, err);
		if (k < 0)
			return k;
	}
	return 0;
}
