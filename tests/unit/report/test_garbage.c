/* Records and documents that no run leaves: no crash, under ASan and UBSan. */
#include <limits.h>
#include "report/report.h"
#include "unit/verdict/record.h"

static uint64_t seed;

static uint64_t next(void)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return seed >> 20;
}

/* Mostly near the run, at times anything. */
static uint64_t some_time(void)
{
	switch (next() % 12) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return next() << 20;
	default:
		return START_NS + next() % (20 * NS_PER_S);
	}
}

static void write_all(const cJSON *report)
{
	char *text = NULL;
	size_t length;
	FILE *f = open_memstream(&text, &length);

	cr_assert_eq(report_write_text(f, report, next() % 2, NULL), 0);
	cr_assert_eq(report_write_html(f, report, NULL), 0);
	cr_assert_eq(report_write_junit(f, report, NULL), 0);
	cr_assert_eq(report_write_markdown(f, report, NULL), 0);
	fclose(f);
	free(text);
}

static void judge(const struct run_record *r)
{
	_cleanup_(verdict_freep) struct verdict *v = verdict_compute(r);
	_cleanup_json_ cJSON *report = report_json(r, v), *again = NULL;
	_cleanup_free_ char *text = json_print_pretty(report);
	_cleanup_err_ struct err *err = NULL;

	/* What is written can be read again. */
	cr_assert_eq(json_parse(text, strlen(text), &again, &err), 0, "%s", err_text(err));
	write_all(again);
	cr_assert(verdict_exit_code(v->verdict) >= 0);
}

static struct run_record *random_record(void)
{
	struct run_record *r = next() % 8 ? record_new() : run_record_new();
	size_t n = next() % 200;

	r->started_ns = next() % 4 ? START_NS : some_time();
	r->ended_ns = some_time();
	r->ledger.done = next() % 2;
	r->ended_as = (enum run_verdict)(next() % VERDICT_MAX);
	if (next() % 4 == 0)
		r->slow_ns = r->poll_interval_ns = 0;
	for (size_t i = 0; i < n; i++) {
		struct attempt a = {
			.client = (uint32_t)(next() % 8),
			.sent_ns = some_time(),
			.done_ns = some_time(),
			.outcome = (enum outcome)(next() % 3),
			.instance = (int8_t)(next() % 8 - 2),
			.timeline = (uint32_t)(next() % 4),
		};
		struct observation o = {
			.at_ns = some_time(),
			.instance = (uint8_t)(next() % 5),
			.reachable = next() % 4,
			.in_recovery = next() % 2,
			.streaming = next() % 2,
			.timeline = (uint32_t)(next() % 4),
			.lsn = next() << (next() % 40),
		};

		run_record_add_attempt(r, &a);
		run_record_add_observation(r, &o);
		run_record_add_event(r, some_time(), (enum event_kind)(next() % EVENT_KIND_MAX),
			(int)(next() % 8) - 3, next() % 3 ? "primary" : NULL, (uint32_t)(next() % 3),
			"%s", "x");
	}
	for (size_t i = next() % 3; i > 0; i--) {
		struct fault_run *f = fault(r, (int)(next() % 6) - 2, 1000, 2000, next() % 2);

		f->fired_ns = some_time();
		f->reverted_ns = some_time();
		if (next() % 2) {
			cJSON_Delete(f->params);
			f->params = NULL;
			free(f->fault);
			f->fault = NULL;
		}
	}
	for (int f = 0; f < 2; f++) {
		expect(r, "writeTtr", f ? "min" : "max", "1s");
		expect(r, "fullRedundancy", f ? "min" : "max", "1s");
		expect(r, "splitBrain", f ? "min" : "max", "claimed");
	}
	return r;
}

Test(garbage, records)
{
	for (seed = 1; seed < 80; seed++) {
		uint64_t keep = seed;
		_cleanup_(run_record_freep) struct run_record *r = random_record();

		judge(r);
		seed = keep;
	}
}

Test(garbage, an_empty_record)
{
	_cleanup_(run_record_freep) struct run_record *r = run_record_new();

	judge(r);
}

/* One member after another of a good document becomes something else. */
static cJSON *odd_value(unsigned which)
{
	switch (which) {
	case 0:
		return cJSON_CreateNull();
	case 1:
		return cJSON_CreateNumber(1e300);
	case 2:
		return cJSON_CreateNumber(-1);
	case 3:
		return cJSON_CreateString("<b>\x01");
	case 4:
		return cJSON_CreateArray();
	case 5:
		return cJSON_CreateObject();
	default:
		return cJSON_CreateTrue();
	}
}

static void spoil(const cJSON *good, unsigned member, unsigned which, bool deep)
{
	_cleanup_json_ cJSON *report = cJSON_Duplicate(good, true);
	cJSON *parent = report, *victim = cJSON_GetArrayItem(report, (int)member);

	/* Into the first of a list, or an object. */
	while (deep && victim && victim->child && (cJSON_IsObject(victim) || cJSON_IsArray(victim))) {
		parent = victim;
		victim = cJSON_GetArrayItem(victim,
			(int)(next() % (unsigned)cJSON_GetArraySize(victim)));
	}
	if (!victim)
		return;
	if (cJSON_IsObject(parent)) {
		_cleanup_free_ char *key = strdup(victim->string);

		cJSON_ReplaceItemInObjectCaseSensitive(parent, key, odd_value(which));
	} else {
		cJSON_ReplaceItemViaPointer(parent, victim, odd_value(which));
	}
	write_all(report);
}

Test(garbage, documents)
{
	_cleanup_(run_record_freep) struct run_record *r = failover();
	_cleanup_(verdict_freep) struct verdict *v = NULL;
	_cleanup_json_ cJSON *report = NULL;
	static const char *const odd[] = {"{}", "[]", "1", "\"x\"", "null"};

	expect(r, "writeTtr", "max", "1s");
	v = verdict_compute(r);
	report = report_json(r, v);
	seed = 7;
	for (unsigned member = 0; member < (unsigned)cJSON_GetArraySize(report); member++)
		for (unsigned which = 0; which < 7; which++) {
			spoil(report, member, which, false);
			for (int i = 0; i < 2; i++)
				spoil(report, member, which, true);
		}
	for (size_t i = 0; i < ELEMENTS(odd); i++) {
		_cleanup_json_ cJSON *o = cJSON_Parse(odd[i]);

		write_all(o);
	}
}
