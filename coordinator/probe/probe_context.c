#include "probe/probe_context.h"

#include <stdlib.h>
#include <string.h>
#include "core/clock.h"

static void fill_defaults(struct probe_options *o)
{
	if (o->interval_ns == 0)
		o->interval_ns = 10 * NS_PER_MS;
	if (o->fresh_interval_ns == 0)
		o->fresh_interval_ns = 100 * NS_PER_MS;
	if (o->poll_interval_ns == 0)
		o->poll_interval_ns = 50 * NS_PER_MS;
	if (o->statement_timeout_ns == 0)
		o->statement_timeout_ns = 2 * NS_PER_S;
	if (o->connect_timeout_ns == 0)
		o->connect_timeout_ns = NS_PER_S;
}

static int add_service(struct pg_endpoints *list, const struct probe_service *s, struct err **err)
{
	return pg_endpoints_add(list, s->host, s->address, s->port, err);
}

static int collect_endpoints(struct probe_context *c, struct err **err)
{
	const struct probe_options *o = &c->options;
	bool own = pg_settings_have_hosts(c->settings);
	int r;

	c->all_instances = !own && !o->write_service.host;
	if (!own && o->write_service.host)
		r = add_service(&c->endpoints[0], &o->write_service, err);
	else
		r = pg_settings_endpoints(c->settings, c->record, &c->endpoints[0], err);
	if (r == 0 && !own && o->read_service.host)
		r = add_service(&c->endpoints[c->n_endpoints - 1], &o->read_service, err);
	for (size_t i = 0; r == 0 && c->options.straight && i < c->record->n_instances; i++)
		r = pg_instance_endpoint(c->record, i, &c->endpoints[1 + i], err);
	return r;
}

int probe_context_new(sd_event *event, struct run_record *record, const struct probe_options *o,
	struct probe_context **ret, struct err **err)
{
	_cleanup_(probe_context_freep) struct probe_context *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_errno(err, -ENOMEM, "probes");
	c->event = sd_event_ref(event);
	c->record = record;
	c->options = *o;
	c->options.conninfo = NULL;
	fill_defaults(&c->options);
	snprintf(c->application_name, sizeof(c->application_name), "pgjolt %s", record->run);
	c->n_endpoints = 2 + record->n_instances;
	c->endpoints = calloc(c->n_endpoints, sizeof(*c->endpoints));
	c->writable = calloc(record->n_instances + 1, sizeof(*c->writable));
	if (!c->endpoints || !c->writable)
		return err_errno(err, -ENOMEM, "probes");
	for (size_t i = 0; i < record->n_instances; i++)
		c->writable[i] = record->instances[i].role_at_start == ROLE_PRIMARY;
	r = pg_settings_new(o->conninfo, o->login, &c->settings, err);
	if (r == 0)
		r = collect_endpoints(c, err);
	c->options.login = NULL;
	c->options.write_service = c->options.read_service = (struct probe_service){0};
	if (r == 0)
		r = resolver_new(event, c->endpoints, c->n_endpoints, &c->resolver, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(c);
	return 0;
}

void probe_context_free(struct probe_context *c)
{
	if (!c)
		return;
	ledger_free(c->ledger);
	resolver_free(c->resolver);
	for (size_t i = 0; i < c->n_endpoints && c->endpoints; i++)
		pg_endpoints_done(&c->endpoints[i]);
	free(c->endpoints);
	free(c->writable);
	pg_settings_free(c->settings);
	sd_event_unref(c->event);
	free(c);
}

struct pg_session_config probe_session_config(const struct probe_context *c)
{
	return (struct pg_session_config){
		.event = c->event,
		.settings = c->settings,
		.endpoints = probe_clients_way(c),
		.resolver = c->resolver,
		.application_name = c->application_name,
		.connect_timeout_ns = c->options.connect_timeout_ns,
		.statement_timeout_ns = c->options.statement_timeout_ns,
	};
}
