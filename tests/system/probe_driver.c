/*
 * Drives the probes alone, for test_probe.py: prepare, start, run until a line comes in, stop,
 * wait for another line, check; then prints the record as JSON. Times are CLOCK_MONOTONIC.
 *   probe-driver FOLDER RUN CONNINFO [keep] [clients-only] NAME=HOST:PORT...
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "core/clock.h"
#include "probe/probe.h"

struct drive {
	sd_event *event;
	struct run_record *record;
	unsigned lines;		/* read and not yet waited for */
	bool ended;		/* standard input */
	char *failure;
};

static int on_input(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct drive *d = data;
	char text[64];
	ssize_t n = read(fd, text, sizeof(text));

	(void)events;
	for (ssize_t i = 0; i < n; i++)
		d->lines += text[i] == '\n';
	if (n <= 0) {
		d->ended = true;
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
	}
	return 0;
}

static void on_failed(const struct err *err, void *data)
{
	struct drive *d = data;

	d->failure = strdup(err_text(err));
}

static void add_instance(struct run_record *r, const char *text)
{
	const char *equals = strchr(text, '='), *colon = strrchr(text, ':');
	struct run_instance *i;

	r->instances = reallocarray(r->instances, r->n_instances + 1, sizeof(*r->instances));
	if (!r->instances || !equals || !colon)
		abort();
	i = &r->instances[r->n_instances++];
	*i = (struct run_instance){
		.name = strndup(text, equals - text),
		.member = strndup(text, equals - text),
		.host = strndup(equals + 1, colon - equals - 1),
		.port = (uint16_t)atoi(colon + 1),
	};
}

static cJSON *attempts_json(const struct run_record *r)
{
	cJSON *list = json_array();

	for (size_t i = 0; i < r->n_attempts; i++) {
		const struct attempt *a = &r->attempts[i];
		cJSON *o = json_object();

		json_add_string(o, "client", r->clients[a->client].name);
		json_add_uint(o, "sequence", a->sequence);
		json_add_uint(o, "sent_ns", a->sent_ns);
		json_add_uint(o, "done_ns", a->done_ns);
		json_add_string(o, "outcome", outcome_to_string(a->outcome));
		json_add_int(o, "instance", a->instance);
		json_add_uint(o, "timeline", a->timeline);
		json_add_string(o, "sqlstate", a->sqlstate);
		json_append(list, o);
	}
	return list;
}

static cJSON *observations_json(const struct run_record *r)
{
	cJSON *list = json_array();

	for (size_t i = 0; i < r->n_observations; i++) {
		const struct observation *b = &r->observations[i];
		cJSON *o = json_object();

		json_add_uint(o, "at_ns", b->at_ns);
		json_add_uint(o, "instance", b->instance);
		json_add_bool(o, "reachable", b->reachable);
		json_add_bool(o, "in_recovery", b->in_recovery);
		json_add_bool(o, "read_only", b->read_only);
		json_add_bool(o, "streaming", b->streaming);
		json_add_uint(o, "timeline", b->timeline);
		json_add_uint(o, "lsn", b->lsn);
		json_append(list, o);
	}
	return list;
}

static cJSON *events_json(const struct run_record *r)
{
	cJSON *list = json_array();

	for (size_t i = 0; i < r->n_events; i++) {
		const struct run_event *e = &r->events[i];
		cJSON *o = json_object();

		json_add_uint(o, "at_ns", e->at_ns);
		json_add_string(o, "kind", event_kind_to_string(e->kind));
		json_add_int(o, "instance", e->instance);
		json_add_string(o, "value", e->value);
		json_add_uint(o, "timeline", e->timeline);
		json_add_string(o, "text", e->text);
		json_append(list, o);
	}
	return list;
}

static cJSON *ledger_json(const struct run_record *r)
{
	const struct ledger_check *l = &r->ledger;
	cJSON *o = json_object();

	json_add_bool(o, "done", l->done);
	json_add_string(o, "error", l->error);
	json_add_uint(o, "attempted", l->attempted);
	json_add_uint(o, "ok", l->ok);
	json_add_uint(o, "failed", l->failed);
	json_add_uint(o, "unknown", l->unknown);
	json_add_uint(o, "found", l->found);
	json_add_uint(o, "lost", l->lost);
	json_add_uint(o, "recovered", l->recovered);
	json_add_uint(o, "unexpected", l->unexpected);
	return o;
}

static void print_record(const struct drive *d, const char *error)
{
	_cleanup_json_ cJSON *o = json_object();
	_cleanup_free_ char *text = NULL;
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	json_add_string(o, "error", error);
	json_add_string(o, "failure", d->failure);
	json_add_double(o, "cpu_s", usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	json_add_uint(o, "max_rss_kib", usage.ru_maxrss);
	json_add_item(o, "ledger", ledger_json(d->record));
	json_add_item(o, "events", events_json(d->record));
	json_add_item(o, "observations", observations_json(d->record));
	json_add_item(o, "attempts", attempts_json(d->record));
	text = json_print(o);
	puts(text);
}

static void wait_line(struct drive *d)
{
	while (d->lines == 0 && !d->ended && sd_event_run(d->event, UINT64_MAX) >= 0)
		;
	if (d->lines > 0)
		d->lines--;
}

static int drive(struct drive *d, const struct probe_options *o, const char *folder,
	struct err **err)
{
	const struct probe_listener listener = {.failed = on_failed, .data = d};
	struct probes *p = NULL;
	int r;

	r = probes_prepare(d->event, d->record, o, err);
	if (r == 0)
		r = probes_start(d->event, d->record, o, folder, &listener, &p, err);
	if (r < 0)
		return r;
	fprintf(stderr, "started\n");
	wait_line(d);
	probes_stop(p);
	fprintf(stderr, "stopped\n");
	wait_line(d);
	r = probes_check(p, err);
	probes_free(p);
	return r;
}

int main(int argc, char **argv)
{
	struct probe_options o = {.straight = true};
	struct drive d = {.record = run_record_new()};
	_cleanup_err_ struct err *err = NULL;
	sd_event_source *input = NULL;

	if (argc < 4 || sd_event_new(&d.event) < 0 ||
		sd_event_add_io(d.event, &input, STDIN_FILENO, EPOLLIN, on_input, &d) < 0)
		return 2;
	d.record->run = strdup(argv[2]);
	o.conninfo = argv[3];
	for (int i = 4; i < argc; i++) {
		if (strcmp(argv[i], "keep") == 0)
			o.keep = true;
		else if (strcmp(argv[i], "clients-only") == 0)
			o.straight = false;
		else
			add_instance(d.record, argv[i]);
	}
	drive(&d, &o, argv[1], &err);
	print_record(&d, err ? err_text(err) : NULL);
	sd_event_source_unref(input);
	sd_event_unref(d.event);
	run_record_free(d.record);
	free(d.failure);
	return 0;
}
