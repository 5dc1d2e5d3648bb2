/* A drill as YAML again: what a run's plan.yaml holds. Texts are written as JSON strings, which
 * YAML 1.2 includes, so nothing needs a second quoting. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/units.h"
#include "drill/drill.h"

/* Two differences from JSON: "$" begins a variable when the plan is read again, and what libyaml takes
 * for a control character or for a line's end must be escaped (from U+007F on: here all of that
 * block, the line separators and the byte order mark). */
static void put_quoted(FILE *f, const char *json)
{
	for (const unsigned char *p = (const unsigned char *)json; *p; p++) {
		unsigned code = 0;

		if (*p == 0x7f)
			code = *p;
		else if (p[0] == 0xc2 && p[1] < 0xa0)
			code = p[1];
		else if ((p[0] & 0xf0) == 0xe0)
			code = (p[0] & 0xfU) << 12 | (p[1] & 0x3fU) << 6 | (p[2] & 0x3fU);
		if (code && (code < 0xa0 || code == 0x2028 || code == 0x2029 || code == 0xfeff ||
				    code >= 0xfffe)) {
			fprintf(f, "\\u%04x", code);
			p += code < 0x80 ? 0 : code < 0x800 ? 1 : 2;
			continue;
		}
		if (*p == '$')
			fputc('$', f);
		fputc(*p, f);
	}
}

static void put_text(FILE *f, const char *text)
{
	_cleanup_json_ cJSON *string = cJSON_CreateString(text ? text : "");
	_cleanup_free_ char *quoted = json_print(string);

	put_quoted(f, quoted);
}

static void put_key(FILE *f, unsigned depth, const char *key, const char *text)
{
	fprintf(f, "%*s%s: ", (int)depth * 2, "", key);
	put_text(f, text);
	fputc('\n', f);
}

static void put_duration(FILE *f, unsigned depth, const char *key, uint64_t ns)
{
	char text[UNITS_TEXT_MAX];

	fprintf(f, "%*s%s: %s\n", (int)depth * 2, "", key, duration_format(ns, text));
}

static void put_bytes(FILE *f, unsigned depth, const char *key, uint64_t bytes)
{
	char text[UNITS_TEXT_MAX];

	fprintf(f, "%*s%s: %s\n", (int)depth * 2, "", key, bytes_format(bytes, text));
}

static void put_params(FILE *f, unsigned depth, const cJSON *params)
{
	const cJSON *item;

	if (!params || !params->child)
		return;
	fprintf(f, "%*sparams:\n", (int)depth * 2, "");
	cJSON_ArrayForEach(item, params)
	{
		_cleanup_free_ char *value = json_print(item);

		fprintf(f, "%*s%s: ", (int)(depth + 1) * 2, "", item->string);
		put_quoted(f, value);
		fputc('\n', f);
	}
}

static void put_steps(FILE *f, unsigned depth, const struct step *steps, size_t n);

static void put_inject(FILE *f, unsigned depth, const struct step *s)
{
	fprintf(f, "inject: %s\n", s->fault->name);
	if (s->name)
		put_key(f, depth, "name", s->name);
	put_key(f, depth, "target", s->target.text);
	put_duration(f, depth, "for", s->duration_ns);
	put_params(f, depth, s->params);
	if (s->may_miss)
		fprintf(f, "%*smayMiss: true\n", (int)depth * 2, "");
}

static void put_wait(FILE *f, unsigned depth, const struct step *s)
{
	fprintf(f, "wait: %s\n", condition_to_string(s->condition));
	put_duration(f, depth, "limit", s->limit_ns);
	if (s->may_fail)
		fprintf(f, "%*smayFail: true\n", (int)depth * 2, "");
}

static void put_step(FILE *f, unsigned depth, const struct step *s)
{
	fprintf(f, "%*s- ", (int)depth * 2, "");
	switch (s->kind) {
	case STEP_INJECT:
		put_inject(f, depth + 1, s);
		break;
	case STEP_WAIT:
		put_wait(f, depth + 1, s);
		break;
	case STEP_REVERT:
		fprintf(f, "revert: %s\n", s->reverts ? s->reverts : "all");
		break;
	case STEP_PARALLEL:
		fputs("parallel:\n", f);
		put_steps(f, depth + 2, s->steps, s->n_steps);
		break;
	case STEP_REPEAT:
		fprintf(f, "repeat: %u\n%*ssteps:\n", s->count, (int)(depth + 1) * 2, "");
		put_steps(f, depth + 2, s->steps, s->n_steps);
		break;
	default:
		/* A branch of a parallel step: a list in the list. */
		fputc('\n', f);
		put_steps(f, depth + 1, s->steps, s->n_steps);
	}
}

static void put_steps(FILE *f, unsigned depth, const struct step *steps, size_t n)
{
	for (size_t i = 0; i < n; i++)
		put_step(f, depth, &steps[i]);
}

static void put_expectations(FILE *f, const struct drill *d)
{
	if (d->n_expectations)
		fputs("expect:\n", f);
	/* Bounds of one figure stand together. */
	for (size_t i = 0; i < d->n_expectations; i++) {
		bool first = true;

		for (size_t k = 0; k < i; k++)
			if (d->expectations[k].figure == d->expectations[i].figure)
				first = false;
		if (!first)
			continue;
		fprintf(f, "  %s:\n", expectation_key(d->expectations[i].figure));
		for (size_t k = i; k < d->n_expectations; k++)
			if (d->expectations[k].figure == d->expectations[i].figure)
				put_key(f, 2, d->expectations[k].has_min ? "min" : "max",
					d->expectations[k].text);
	}
}

static void put_abort(FILE *f, const struct drill *d)
{
	fputs("abort:\n", f);
	put_duration(f, 1, "time", d->abort_time_ns);
	if (d->abort_lag_bytes)
		put_bytes(f, 1, "lag", d->abort_lag_bytes);
	if (d->abort_writes_down_ns)
		put_duration(f, 1, "writesDown", d->abort_writes_down_ns);
}

char *drill_to_yaml(const struct drill *d)
{
	char *text = NULL;
	size_t length;
	FILE *f = open_memstream(&text, &length);

	if (!f)
		abort();
	put_key(f, 0, "drill", d->name);
	put_key(f, 0, "summary", d->summary);
	if (d->expected)
		put_key(f, 0, "expectedBehaviour", d->expected);
	if (d->sources)
		fputs("sources:\n", f);
	for (size_t i = 0; d->sources && d->sources[i]; i++) {
		fputs("  - ", f);
		put_text(f, d->sources[i]);
		fputc('\n', f);
	}
	fputs("steadyState:\n", f);
	if (d->steady_instances)
		fprintf(f, "  instances: %u\n", d->steady_instances);
	put_bytes(f, 1, "lag", d->steady_lag_bytes);
	put_duration(f, 1, "for", d->steady_for_ns);
	put_duration(f, 1, "limit", d->steady_limit_ns);
	fputs("probes:\n", f);
	put_duration(f, 1, "interval", d->interval_ns);
	put_duration(f, 1, "fresh", d->fresh_interval_ns);
	put_duration(f, 1, "slow", d->slow_ns);
	fputs("steps:\n", f);
	put_steps(f, 1, d->steps, d->n_steps);
	fputs("recovery:\n", f);
	put_duration(f, 1, "limit", d->recovery_limit_ns);
	put_expectations(f, d);
	put_abort(f, d);
	if (fclose(f))
		abort();
	return text;
}
