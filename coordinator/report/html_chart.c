/*
 * The chart: a lane for each probe, all over one time axis. Texts are HTML at places in percent and only the
 * areas are SVG, stretched, so that it is legible at any width.
 */
#include "report/html_chart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 1000
#define BUCKETS_MAX 100000

double chart_percent(const struct chart *c, double ms)
{
	double p = (ms - c->from_ms) / (c->to_ms - c->from_ms) * 100;

	return p < 0 ? 0 : p > 100 ? 100 : p;
}

/* ---- lanes ---- */

/* Sums of a column's buckets, n columns. The caller frees. */
static double *columns(const struct chart *c, const cJSON *array, bool largest, size_t *ret_count)
{
	size_t n = (c->buckets + c->merge - 1) / c->merge, i = 0;
	double *sums = calloc(n + 1, sizeof(*sums));
	const cJSON *item;

	if (!sums)
		abort();
	cJSON_ArrayForEach(item, array) {
		double value = cJSON_IsNumber(item) && isfinite(item->valuedouble) &&
				item->valuedouble > 0 ? item->valuedouble : 0;
		double *sum = &sums[i / c->merge];

		if (i++ >= c->buckets)
			break;
		*sum = largest ? fmax(*sum, value) : *sum + value;
	}
	*ret_count = n;
	return sums;
}

/* Acknowledged: an area from the bottom, as high as there are many. */
static void put_area(const struct chart *c, const cJSON *series)
{
	size_t n;
	_cleanup_free_ double *ok = columns(c, report_list(series, "ok"), false, &n);
	double most = 0, before = -1;

	for (size_t i = 0; i < n; i++)
		most = fmax(most, ok[i]);
	if (most <= 0)
		return;
	fputs("<path class=\"s-ok\" d=\"M0 100", c->f);
	for (size_t i = 0; i < n; i++) {
		double top = 100 - ok[i] / most * 68;

		if (fabs(top - before) >= 0.5)
			fprintf(c->f, "H%zuV%.1f", i, top);
		before = fabs(top - before) >= 0.5 ? top : before;
	}
	fprintf(c->f, "H%zuV100Z\"/>", n);
}

/* Failed or unknown: a band at the top wherever there was one. */
static void put_band(const struct chart *c, const cJSON *series, const char *key, const char *class,
	int top)
{
	size_t n, from = 0;
	_cleanup_free_ double *bad = columns(c, report_list(series, key), false, &n);
	bool any = false;

	for (size_t i = 0; i <= n; i++) {
		bool on = i < n && bad[i] > 0;

		if (on && (i == 0 || bad[i - 1] <= 0))
			from = i;
		if (!on && i > 0 && bad[i - 1] > 0) {
			if (!any)
				fprintf(c->f, "<path class=\"%s\" d=\"", class);
			any = true;
			fprintf(c->f, "M%zu %dh%zuv13H%zuz", from, top, i - from, from);
		}
	}
	if (any)
		fputs("\"/>", c->f);
}

static void begin_svg(const struct chart *c)
{
	/* The axis may go beyond the last bucket. */
	fprintf(c->f, "<svg viewBox=\"0 0 %.3f 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
		(c->to_ms - c->from_ms) / c->bucket_ms / (double)c->merge);
}

static void put_lane(const struct chart *c, const cJSON *series, const cJSON *client, size_t index,
	const char *name)
{
	bool straight = strcmp(report_text(client, "way"), "instance") == 0;
	bool writer = strcmp(report_text(client, "kind"), "writer") == 0;

	fprintf(c->f, "<div class=\"lane\" data-series=\"%zu\"><div class=\"lane-name\">%s</div>"
		"<div class=\"lane-plot\">", index, name);
	begin_svg(c);
	put_area(c, series);
	/* A replica refuses writes, as it should. */
	put_band(c, series, "failed", straight && writer ? "s-refused" : "s-fail", 0);
	put_band(c, series, "unknown", "s-unknown", 14);
	fputs("</svg></div></div>\n", c->f);
}

/* ---- latency ---- */

#define LATENCY_LOW_MS	0.1
#define LATENCY_DECADES 5

static double latency_y(double ms)
{
	double y = 100 - log10(ms / LATENCY_LOW_MS) / LATENCY_DECADES * 100;

	return y < 0 ? 0 : y > 100 ? 100 : y;
}

static void put_line(const struct chart *c, const cJSON *series, const char *key, const char *class)
{
	size_t n;
	_cleanup_free_ double *ms = columns(c, report_list(series, key), true, &n);
	bool pen = false;

	fprintf(c->f, "<path class=\"%s\" d=\"", class);
	for (size_t i = 0; i < n; i++) {
		if (ms[i] > 0)
			fprintf(c->f, "%c%.1f %.1f", pen ? 'L' : 'M', (double)i + 0.5,
				latency_y(ms[i]));
		if (ms[i] > 0 && !pen)
			fputs("h.01", c->f);	/* a lone one is a dot */
		pen = ms[i] > 0;
	}
	fputs("\"/>", c->f);
}

static void put_latency(const struct chart *c, const cJSON *series)
{
	static const char *const labels[] = {"1 ms", "10 ms", "100 ms", "1 s"};

	fputs("<div class=\"lane tall\"><div class=\"lane-name\">latency of acknowledged writes: "
	      "median, <span style=\"color:var(--fail)\">longest</span></div>"
	      "<div class=\"lane-plot\">", c->f);
	for (size_t i = 0; i < ELEMENTS(labels); i++)
		fprintf(c->f, "<div class=\"grid\" style=\"top:%.1f%%\">%s</div>",
			latency_y(pow(10, (double)i)), labels[i]);
	begin_svg(c);
	put_line(c, series, "max_ms", "s-max");
	put_line(c, series, "p50_ms", "s-p50");
	fputs("</svg></div></div>\n", c->f);
}

/* ---- states ---- */

static const char *const state_words[] = {"primary", "read-only", "streaming", "replica",
	"unreachable"};

static void put_states(const struct chart *c, const cJSON *state)
{
	const cJSON *span;

	fputs("<div class=\"lane strip\"><div class=\"lane-name\">state, by SQL</div>"
	      "<div class=\"lane-plot\">", c->f);
	cJSON_ArrayForEach(span, report_list(state, "spans")) {
		double from = chart_percent(c, report_number(span, "from_ms"));
		double to = chart_percent(c, report_number(span, "to_ms"));
		int word = string_table_from(state_words, ELEMENTS(state_words),
			report_text(span, "state"));
		char text[UNITS_TEXT_MAX];

		if (isnan(from) || isnan(to) || to < from || word < 0)
			continue;
		fprintf(c->f, "<div class=\"span k-%s\" style=\"left:%.3f%%;width:%.3f%%\" "
			"title=\"%s, timeline %s\"></div>", state_words[word], from, to - from,
			state_words[word], report_count(report_number(span, "timeline"), text));
	}
	fputs("</div></div>\n", c->f);
}

static const cJSON *at(const cJSON *array, size_t i)
{
	return i < BUCKETS_MAX ? cJSON_GetArrayItem(array, (int)i) : NULL;
}

/* Those of one instance, or with instance NULL the clients' way's. */
static void put_lanes(const struct chart *c, const char *instance)
{
	const cJSON *list = report_list(json_get(c->report, "series"), "clients"), *series;
	const cJSON *clients = report_list(c->report, "clients");
	const cJSON *latency = NULL;
	size_t i = 0;

	cJSON_ArrayForEach(series, list) {
		const cJSON *client = at(clients, i++);
		bool straight = strcmp(report_text(client, "way"), "instance") == 0;
		bool writer = strcmp(report_text(client, "kind"), "writer") == 0;
		char name[64];

		if (!client || straight != (instance != NULL) ||
			(instance && strcmp(report_text(client, "instance"), instance)))
			continue;
		snprintf(name, sizeof(name), "%s%s", writer ? "writes" : "reads",
			report_true(client, "fresh") ? ", a session each" :
			straight ? ", straight to it" : ", one session");
		put_lane(c, series, client, i - 1, name);
		if (writer && !straight && !report_true(client, "fresh") && !latency)
			latency = series;
	}
	if (latency)
		put_latency(c, latency);
}

static void put_instances(const struct chart *c)
{
	const cJSON *instance, *states = report_list(c->report, "states");
	size_t i = 0;

	cJSON_ArrayForEach(instance, report_list(c->report, "instances")) {
		const char *name = report_text(instance, "name");

		fputs("<div class=\"group\">", c->f);
		escape_markup(c->f, name);
		fputs("</div>\n", c->f);
		put_states(c, at(states, i++));
		put_lanes(c, name);
	}
}

#define FAULT_LANES_MAX 20

/* A bar each, with its name beside it where the window is narrow. */
static void put_faults(const struct chart *c)
{
	const cJSON *fault;
	size_t n = 0;

	cJSON_ArrayForEach(fault, report_list(c->report, "faults")) {
		double fired = report_number(fault, "fired_ms");
		double reverted = report_number(fault, "reverted_ms"), from, to;

		if (isnan(fired) || n++ >= FAULT_LANES_MAX)
			continue;
		from = chart_percent(c, fired);
		to = chart_percent(c, isnan(reverted) ? c->to_ms : fmax(reverted, fired));
		fputs("<div class=\"lane strip\"><div class=\"lane-name\">", c->f);
		escape_markup(c->f, report_text_or(fault, "instance", "a fault"));
		fprintf(c->f, "</div><div class=\"lane-plot\"><div class=\"bar\" "
			"style=\"left:%.3f%%;width:%.3f%%\"></div><div class=\"bar-name%s\" style=\"",
			from, to - from, to - from > 20 ? " in" : "");
		if (to - from <= 20 && from > 60)
			fprintf(c->f, "right:%.3f%%", 100 - from);
		else
			fprintf(c->f, "left:%.3f%%", to - from > 20 ? from : to);
		fputs("\">", c->f);
		escape_markup(c->f, report_text(fault, "fault"));
		fputs("</div></div></div>\n", c->f);
	}
}

/* ---- axis and legend ---- */

static double nice_step(double span_ms)
{
	static const double steps[] = {1, 2, 5};
	double power = 1;

	for (;;) {
		for (size_t i = 0; i < ELEMENTS(steps); i++)
			if (span_ms / (steps[i] * power) <= 9)
				return steps[i] * power;
		power *= 10;
	}
}

static void put_axis(const struct chart *c)
{
	double zero = isnan(c->t0) ? c->from_ms : c->t0, step = nice_step(c->to_ms - c->from_ms);

	fputs("<div class=\"axis\" aria-hidden=\"true\">", c->f);
	for (double t = ceil((c->from_ms - zero) / step) * step; t <= c->to_ms - zero; t += step)
		fprintf(c->f, "<span style=\"left:%.3f%%\">%g s</span>", chart_percent(c, zero + t),
			t == 0 ? 0 : t / 1000);
	fputs("</div>\n", c->f);
}

static void put_legend(FILE *f)
{
	static const struct {
		const char *class, *words;
	} items[] = {
		{"ok", "acknowledged"}, {"fail", "failed"}, {"unknown", "no answer"},
		{"refused", "refused by a replica, or not reached straight"},
		{"primary", "primary"}, {"streaming", "replica that streams"},
		{"replica", "replica without a stream"}, {"read-only", "primary, read-only"},
		{"unreachable", "does not answer"}, {"fault", "a fault is active"},
	};

	fputs("<div class=\"legend\">", f);
	for (size_t i = 0; i < ELEMENTS(items); i++)
		fprintf(f, "<span><i class=\"k-%s\"></i>%s</span>", items[i].class, items[i].words);
	fputs("</div>\n", f);
}

/* Just what hovering needs. */
static void put_data(const struct chart *c)
{
	_cleanup_json_ cJSON *o = json_object();
	_cleanup_free_ char *text = NULL;
	const cJSON *clients = report_list(json_get(c->report, "series"), "clients");

	json_add_double(o, "t0_ms", c->t0);
	json_add_double(o, "from_ms", c->from_ms);
	json_add_double(o, "to_ms", c->to_ms);
	json_add_double(o, "bucket_ms", c->bucket_ms);
	json_add_uint(o, "buckets", c->buckets);
	json_add_item(o, "clients", cJSON_Duplicate(clients, true));
	text = json_print(o);
	fputs("<script type=\"application/json\" id=\"data\">", c->f);
	escape_script(c->f, text);
	fputs("</script>\n", c->f);
}

static bool chart_init(struct chart *c, FILE *f, const cJSON *report)
{
	const cJSON *series = json_get(report, "series"), *fault;
	double buckets = report_number(series, "buckets");

	*c = (struct chart){.f = f, .report = report, .t0 = report_number(report, "t0_ms"),
		.bucket_ms = report_number(series, "bucket_ms")};
	if (!(buckets >= 1 && buckets <= BUCKETS_MAX) || !(c->bucket_ms >= 1 && c->bucket_ms < 1e10))
		return false;
	c->buckets = (size_t)buckets;
	c->merge = (c->buckets + COLUMNS_MAX - 1) / COLUMNS_MAX;
	c->to_ms = (double)c->buckets * c->bucket_ms;
	if (c->t0 < 0 || c->t0 > c->to_ms)
		c->t0 = NAN;
	/* A fault that was reverted after the last attempt is still whole. */
	cJSON_ArrayForEach(fault, report_list(report, "faults")) {
		double reverted = report_number(fault, "reverted_ms");

		if (reverted > c->to_ms && reverted < c->to_ms * 2)
			c->to_ms = reverted;
	}
	return true;
}

void html_chart(FILE *f, const cJSON *report)
{
	struct chart c;

	if (!chart_init(&c, f, report))
		return;
	fputs("<section><h2>What clients saw</h2>\n<div class=\"chart\" id=\"chart\" role=\"group\" "
	      "aria-label=\"writes and reads over time; the tables below have the figures\">\n", f);
	chart_put_over(&c);
	chart_put_flags(&c);
	put_faults(&c);
	fputs("<div class=\"group\">The clients' way</div>\n", f);
	put_lanes(&c, NULL);
	put_instances(&c);
	put_axis(&c);
	fputs("</div>\n", f);
	put_legend(f);
	put_data(&c);
	fputs("</section>\n", f);
}
