#include "api/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "api/event_log.h"
#include "api/route.h"
#include "api/server_internal.h"
#include "core/catalogue.h"
#include "core/clock.h"

static const unsigned codes[] = {200, 201, 400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 500,
	503, 504};
_Static_assert(ELEMENTS(codes) < METRICS_CODES_MAX, "one more for the others");

void metrics_count_request(struct metrics *m, unsigned route, unsigned status)
{
	unsigned i = 0;

	while (i < ELEMENTS(codes) && codes[i] != status)
		i++;
	m->requests[route < METRICS_ROUTES_MAX ? route : METRICS_ROUTES_MAX - 1][i]++;
}

/* Index in the catalogue, or METRICS_FAULTS_MAX. */
static unsigned fault_index(const char *name)
{
	const struct fault_spec *const *faults = catalogue_faults();

	for (unsigned i = 0; name && faults[i] && i < METRICS_FAULTS_MAX; i++)
		if (strcmp(faults[i]->name, name) == 0)
			return i;
	return METRICS_FAULTS_MAX;
}

void metrics_count_ended(struct api_server *server)
{
	struct metrics *m = &server->metrics;
	const struct agent *agent = server->agent;
	const struct agent_event *e;

	while ((e = event_log_after(agent->events, m->counted))) {
		_cleanup_(experiment_info_freep) struct experiment_info *info = NULL;
		struct experiment *experiment;
		unsigned fault;

		m->counted = e->sequence;
		if (strcmp(e->kind, "state") != 0 || !e->experiment || !e->state ||
			strcmp(e->state, "clean") != 0 ||
			experiments_find(agent->experiments, e->experiment, &experiment, NULL) < 0)
			continue;
		info = experiment_describe(experiment);
		fault = fault_index(info->fault);
		if (fault < METRICS_FAULTS_MAX)
			m->ended_hits[fault] += info->hits;
	}
}

/* A label's value: backslash, quote and newline escaped. */
static void label(FILE *f, const char *s)
{
	for (; s && *s; s++) {
		if (*s == '\\' || *s == '"')
			fputc('\\', f);
		if (*s == '\n')
			fputs("\\n", f);
		else
			fputc(*s, f);
	}
}

static void head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_requests(FILE *f, const struct metrics *m)
{
	head(f, "pgjolt_agent_requests_total", "counter", "Requests by route and status.");
	for (unsigned r = 0; r <= routes_count && r < METRICS_ROUTES_MAX; r++) {
		for (unsigned c = 0; c <= ELEMENTS(codes); c++) {
			if (m->requests[r][c] == 0)
				continue;
			fprintf(f, "pgjolt_agent_requests_total{method=\"%s\",route=\"%s\",code=\"",
				r < routes_count ? routes[r].method : "other",
				r < routes_count ? routes[r].path : "other");
			if (c < ELEMENTS(codes))
				fprintf(f, "%u", codes[c]);
			else
				fputs("other", f);
			fprintf(f, "\"} %" PRIu64 "\n", m->requests[r][c]);
		}
	}
	head(f, "pgjolt_agent_refused_callers_total", "counter",
		"Requests of callers who may not call.");
	fprintf(f, "pgjolt_agent_refused_callers_total %" PRIu64 "\n", m->refused_callers);
}

struct census {
	uint64_t count[METRICS_FAULTS_MAX][EXPERIMENT_STATE_MAX];
	uint64_t hits[METRICS_FAULTS_MAX];
	uint64_t stuck;
};

static int take_census(struct api_server *server, struct census *ret, struct err **err)
{
	_cleanup_free_ struct experiment **list = NULL;
	size_t n;
	int r;

	metrics_count_ended(server);
	memcpy(ret->hits, server->metrics.ended_hits, sizeof(ret->hits));
	r = experiments_list(server->agent->experiments, &list, &n);
	if (r < 0)
		return err_errno(err, r, "list the experiments");
	for (size_t i = 0; i < n; i++) {
		_cleanup_(experiment_info_freep) struct experiment_info *info =
			experiment_describe(list[i]);
		unsigned fault = fault_index(info->fault);

		ret->stuck += info->state == EXPERIMENT_STUCK;
		if (fault == METRICS_FAULTS_MAX || info->state >= EXPERIMENT_STATE_MAX)
			continue;
		ret->count[fault][info->state]++;
		if (info->state != EXPERIMENT_CLEAN)
			ret->hits[fault] += info->hits;
	}
	return 0;
}

static void print_experiments(FILE *f, const struct census *c)
{
	const struct fault_spec *const *faults = catalogue_faults();

	head(f, "pgjolt_agent_experiments", "gauge",
		"Experiments there are, the last that ended among them.");
	for (unsigned i = 0; faults[i] && i < METRICS_FAULTS_MAX; i++)
		for (unsigned s = 0; s < EXPERIMENT_STATE_MAX; s++)
			fprintf(f, "pgjolt_agent_experiments{fault=\"%s\",state=\"%s\"} %" PRIu64
				"\n", faults[i]->name,
				experiment_state_to_string((enum experiment_state)s),
				c->count[i][s]);
	head(f, "pgjolt_agent_hits_total", "counter",
		"What the faults touched: packets, processes, requests.");
	for (unsigned i = 0; faults[i] && i < METRICS_FAULTS_MAX; i++)
		fprintf(f, "pgjolt_agent_hits_total{fault=\"%s\"} %" PRIu64 "\n", faults[i]->name,
			c->hits[i]);
	head(f, "pgjolt_agent_stuck", "gauge", "Experiments that could not be reverted.");
	fprintf(f, "pgjolt_agent_stuck %" PRIu64 "\n", c->stuck);
}

static int print_journal(FILE *f, struct journal *journal, struct err **err)
{
	_cleanup_strv_ char **bad = NULL;
	struct journal_entry **entries = NULL;
	size_t n = 0;
	int r;

	r = journal_read_all(journal, &entries, &n, &bad, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		journal_entry_free(entries[i]);
	free(entries);
	head(f, "pgjolt_agent_journal_entries", "gauge", "Faults in the journal.");
	fprintf(f, "pgjolt_agent_journal_entries %zu\n", n);
	head(f, "pgjolt_agent_journal_bad_entries", "gauge",
		"Files of the journal that are no valid entry.");
	fprintf(f, "pgjolt_agent_journal_bad_entries %zu\n", strv_length(bad));
	return 0;
}

static void print_agent(FILE *f, const struct api_server *server)
{
	const struct agent *agent = server->agent;
	const char *reason;

	head(f, "pgjolt_agent_info", "gauge", "The agent itself; always 1.");
	fputs("pgjolt_agent_info{version=\"" PGJOLT_VERSION "\",node=\"", f);
	label(f, agent->config.node_name);
	fputs("\"} 1\n", f);
	head(f, "pgjolt_agent_accepting", "gauge", "1 while new experiments are accepted.");
	fprintf(f, "pgjolt_agent_accepting %d\n",
		experiments_accepting(agent->experiments, &reason));
	head(f, "pgjolt_agent_capability", "gauge", "1 where this node can do the fault.");
	for (size_t i = 0; i < agent->n_capabilities; i++) {
		fputs("pgjolt_agent_capability{fault=\"", f);
		label(f, agent->capabilities[i].fault);
		fputs("\",mechanism=\"", f);
		label(f, agent->capabilities[i].mechanism);
		fprintf(f, "\"} %d\n", agent->capabilities[i].supported);
	}
	head(f, "pgjolt_agent_events_total", "counter", "Events told so far.");
	fprintf(f, "pgjolt_agent_events_total %" PRIu64 "\n", event_log_last(agent->events));
	head(f, "pgjolt_agent_event_followers", "gauge", "Connections that follow the events.");
	fprintf(f, "pgjolt_agent_event_followers %u\n", server->n_followers);
	head(f, "pgjolt_agent_connections", "gauge", "Connections of clients.");
	fprintf(f, "pgjolt_agent_connections %u\n", server->clients.count);
}

static void print_process(FILE *f)
{
	_cleanup_fclose_ FILE *statm = fopen("/proc/self/statm", "re");
	unsigned long size, resident = 0;

	if (statm && fscanf(statm, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	head(f, "process_resident_memory_bytes", "gauge", "Resident memory.");
	fprintf(f, "process_resident_memory_bytes %lu\n",
		resident * (unsigned long)sysconf(_SC_PAGESIZE));
	head(f, "process_cpu_seconds_total", "counter", "User and system time.");
	fprintf(f, "process_cpu_seconds_total %.6f\n",
		(double)clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9);
}

int metrics_print(struct api_server *server, char **ret, struct err **err)
{
	_cleanup_free_ struct census *census = calloc(1, sizeof(*census));
	char *text = NULL;
	size_t length;
	FILE *f;
	int r;

	if (!census)
		return err_errno(err, -ENOMEM, "metrics");
	r = take_census(server, census, err);
	if (r < 0)
		return r;
	f = open_memstream(&text, &length);
	if (!f)
		return err_errno(err, -errno, "metrics");
	print_agent(f, server);
	print_experiments(f, census);
	print_requests(f, &server->metrics);
	r = print_journal(f, server->agent->journal, err);
	print_process(f);
	if (fclose(f) != 0 && r == 0)
		r = err_errno(err, -ENOMEM, "metrics");
	if (r < 0) {
		free(text);
		return r;
	}
	*ret = text;
	return 0;
}
