#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "core/units.h"
#include "probe/ledger_check.h"
#include "probe/prober.h"
#include "probe/schema.h"
#include "probe/state_watch.h"

#define SLOW_DEFAULT_NS	  (500 * NS_PER_MS)
#define PULSE_NS	  (50 * NS_PER_MS)
#define STAGGER_NS	  (3 * NS_PER_MS)
#define CHECK_WITHIN_NS	  (30 * NS_PER_S)
#define CHECK_PAUSE_NS	  (500 * NS_PER_MS)
/* Straight readers need not be denser than the poll of the state. */
#define STRAIGHT_READ_NS  (50 * NS_PER_MS)
/* The loop stood still for so long that figures around it are coarser. */
#define LEDGER_HELD_NS	  (50 * NS_PER_MS)

struct probes {
	struct probe_context *context;
	struct prober **probers;
	size_t n_probers;
	struct state_watch **watches;
	size_t n_watches;
	sd_event_source *pulse;
	bool stopped;
	struct err *error;	/* of the ledger */
};

int probes_prepare(sd_event *event, struct run_record *record, const struct probe_options *o,
	struct err **err)
{
	_cleanup_(probe_context_freep) struct probe_context *c = NULL;
	int r = probe_context_new(event, record, o, &c, err);

	return r < 0 ? r : schema_prepare(c, err);
}

static void add_client(struct run_record *r, enum probe_kind kind, int instance, bool fresh,
	uint64_t interval_ns)
{
	struct probe_client c = {
		.kind = kind,
		.way = instance < 0 ? WAY_CLIENTS : WAY_INSTANCE,
		.fresh = fresh,
		.instance = instance,
		.interval_ns = interval_ns,
	};
	const char *where = "clients";
	struct probe_client *clients;

	if (instance >= 0)
		where = r->instances[instance].member ? r->instances[instance].member
						      : r->instances[instance].name;
	if (asprintf(&c.name, "%s-%s%s", kind == PROBE_WRITER ? "write" : "read", where,
		fresh ? "-fresh" : "") < 0)
		abort();
	clients = reallocarray(r->clients, r->n_clients + 1, sizeof(*clients));
	if (!clients)
		abort();
	r->clients = clients;
	r->clients[r->n_clients++] = c;
}

static void add_clients(const struct probe_context *c)
{
	const struct probe_options *o = &c->options;
	struct run_record *r = c->record;
	uint64_t straight_read = o->interval_ns > STRAIGHT_READ_NS ? o->interval_ns : STRAIGHT_READ_NS;

	add_client(r, PROBE_WRITER, -1, false, o->interval_ns);
	add_client(r, PROBE_WRITER, -1, true, o->fresh_interval_ns);
	add_client(r, PROBE_READER, -1, false, o->interval_ns);
	add_client(r, PROBE_READER, -1, true, o->fresh_interval_ns);
	for (size_t i = 0; o->straight && i < r->n_instances; i++) {
		add_client(r, PROBE_WRITER, (int)i, false, o->interval_ns);
		add_client(r, PROBE_READER, (int)i, false, straight_read);
	}
}

static void stop_probers(struct probes *p)
{
	p->context->stopping = true;
	p->pulse = sd_event_source_disable_unref(p->pulse);
	for (size_t i = 0; i < p->n_probers; i++)
		prober_stop(p->probers[i]);
}

static void on_ledger_failed(const struct err *error, void *data)
{
	struct probes *p = data;
	struct probe_context *c = p->context;

	stop_probers(p);
	if (!p->error)
		err_set(&p->error, error->code, "%s", error->text);
	run_record_add_event(c->record, now_ns(), EVENT_NOTE, -1, "fail", 0,
		"probing stopped: %s", error->text);
	if (c->listener.failed)
		c->listener.failed(error, c->listener.data);
}

static int on_pulse(sd_event_source *source, uint64_t usec, void *data)
{
	struct probes *p = data;
	uint64_t now = now_ns();

	(void)usec;
	for (size_t i = 0; i < p->n_probers; i++)
		prober_check_slow(p->probers[i], now);
	sd_event_source_set_time(source, (now + PULSE_NS) / NS_PER_US);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

static int start_all(struct probes *p, const char *folder, struct err **err)
{
	struct probe_context *c = p->context;
	struct run_record *record = c->record;
	int r;

	r = ledger_open(c->event, folder, record, on_ledger_failed, p, &c->ledger, err);
	if (r < 0)
		return r;
	p->probers = calloc(record->n_clients, sizeof(struct prober *));
	p->watches = calloc(record->n_instances + 1, sizeof(struct state_watch *));
	if (!p->probers || !p->watches)
		return err_errno(err, -ENOMEM, "probes");
	/* Not all at the same instant. */
	for (uint32_t i = 0; i < record->n_clients && r == 0; i++) {
		r = prober_new(c, i, i * STAGGER_NS, &p->probers[i], err);
		p->n_probers += r == 0;
	}
	for (size_t i = 0; c->options.straight && i < record->n_instances && r == 0; i++) {
		r = state_watch_new(c, i, &p->watches[i], err);
		p->n_watches += r == 0;
	}
	if (r < 0)
		return r;
	r = sd_event_add_time(c->event, &p->pulse, CLOCK_MONOTONIC, 0, 1, on_pulse, p);
	return r < 0 ? err_errno(err, r, "probes: timer") : 0;
}

static void remove_schema_quietly(struct probe_context *c)
{
	_cleanup_(sql_freep) struct sql *s = NULL;

	if (!c->options.keep && sql_new(c, probe_clients_way(c), SESSION_WRITE, &s, NULL) == 0)
		schema_remove(c, s, NULL);
}

int probes_start(sd_event *event, struct run_record *record, const struct probe_options *o,
	const char *folder, const struct probe_listener *listener, struct probes **ret,
	struct err **err)
{
	struct probes *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_errno(err, -ENOMEM, "probes");
	r = probe_context_new(event, record, o, &p->context, err);
	if (r == 0) {
		struct probe_context *c = p->context;

		if (listener)
			c->listener = *listener;
		if (record->slow_ns == 0)
			record->slow_ns = SLOW_DEFAULT_NS;
		record->probe_interval_ns = c->options.interval_ns;
		record->poll_interval_ns = c->options.poll_interval_ns;
		add_clients(c);
		r = start_all(p, folder, err);
		if (r < 0)
			remove_schema_quietly(c);
	}
	if (r < 0) {
		probes_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void probes_move(struct probes *p, size_t instance, const char *address)
{
	struct run_instance *n = &p->context->record->instances[instance];
	struct pg_endpoints *straight = &p->context->endpoints[1 + instance];

	if (n->host && strcmp(n->host, address) == 0)
		return;
	free(n->host);
	n->host = strdup(address);
	if (!n->host)
		abort();
	for (size_t i = 0; i < straight->count; i++)
		pg_endpoint_move(&straight->items[i], address);
	/* Where the clients' way is the list of all instances, it goes along. */
	for (size_t i = 0; p->context->all_instances && i < p->context->endpoints[0].count; i++)
		if (p->context->endpoints[0].items[i].instance == (int)instance)
			pg_endpoint_move(&p->context->endpoints[0].items[i], address);
}

static bool any_busy(const struct probes *p)
{
	for (size_t i = 0; i < p->n_probers; i++)
		if (prober_busy(p->probers[i]))
			return true;
	return false;
}

static void close_ledger(struct probes *p)
{
	struct probe_context *c = p->context;
	uint64_t held = ledger_longest_write_ns(c->ledger);
	_cleanup_err_ struct err *error = NULL;
	char text[UNITS_TEXT_MAX];

	if (ledger_close(c->ledger, &error) < 0 && !p->error)
		on_ledger_failed(error, p);
	if (held > LEDGER_HELD_NS)
		run_record_add_event(c->record, now_ns(), EVENT_NOTE, -1, NULL, 0,
			"the ledger's disk held the probes for up to %s", duration_human(held, text));
}

static void free_watches(struct probes *p)
{
	for (size_t i = 0; i < p->n_watches; i++)
		state_watch_free(p->watches[i]);
	p->n_watches = 0;
}

void probes_stop(struct probes *p)
{
	struct probe_context *c = p->context;
	uint64_t deadline = now_ns() + c->options.statement_timeout_ns;

	if (p->stopped)
		return;
	p->stopped = true;
	stop_probers(p);
	while (any_busy(p) && now_ns() < deadline && !c->hurry)
		if (sd_event_run(c->event, 20 * 1000) < 0)
			break;
	for (size_t i = 0; i < p->n_probers; i++)
		prober_give_up(p->probers[i]);
	free_watches(p);
	close_ledger(p);
}

static int compare_once(struct probe_context *c, bool *ret_compared, struct err **err)
{
	_cleanup_(sql_freep) struct sql *s = NULL;
	_cleanup_free_ struct row_key *rows = NULL;
	size_t n;
	int r;

	r = sql_new(c, probe_clients_way(c), SESSION_WRITE, &s, err);
	if (r < 0)
		return r;
	if (!*ret_compared) {
		r = ledger_rows_read(c, s, &rows, &n, err);
		if (r < 0)
			return r;
		ledger_compare(c->record, rows, n);
		*ret_compared = true;
	}
	return c->options.keep ? 0 : schema_remove(c, s, err);
}

static int pause_loop(struct probe_context *c, uint64_t ns)
{
	uint64_t until = now_ns() + ns;
	int r = 0;

	for (uint64_t now = now_ns(); now < until && r >= 0 && !c->hurry; now = now_ns())
		r = sd_event_run(c->event, (until - now) / NS_PER_US + 1);
	return r < 0 ? r : 0;
}

int probes_check(struct probes *p, struct err **err)
{
	struct probe_context *c = p->context;
	uint64_t deadline = now_ns() + CHECK_WITHIN_NS;
	_cleanup_err_ struct err *error = NULL;
	bool compared = false;
	int r;

	probes_stop(p);
	do {
		r = compare_once(c, &compared, &error);
	} while (r < 0 && r != -EACCES && r != -ENOENT && r != -ECANCELED && now_ns() < deadline &&
		pause_loop(c, CHECK_PAUSE_NS) == 0);
	/* Rows that the ledger's file does not hold are checked all the same, but it is said. */
	if (r == 0 && p->error) {
		r = p->error->code;
		err_set(&error, r, "%s", p->error->text);
	}
	if (r == 0)
		return 0;
	free(c->record->ledger.error);
	c->record->ledger.error = strdup(err_text(error));
	return err_set(err, r, "%s", err_text(error));
}

void probes_hurry(struct probes *p)
{
	p->context->hurry = true;
}

void probes_free(struct probes *p)
{
	if (!p)
		return;
	sd_event_source_disable_unref(p->pulse);
	for (size_t i = 0; i < p->n_probers; i++)
		prober_free(p->probers[i]);
	free(p->probers);
	free_watches(p);
	free(p->watches);
	probe_context_free(p->context);
	err_free(p->error);
	free(p);
}
