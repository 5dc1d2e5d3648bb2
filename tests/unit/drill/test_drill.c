#include "parse.h"

#include "core/clock.h"

Test(drill, the_least)
{
	_cleanup_(drill_freep) struct drill *d = parsed(HEAD STEPS);

	cr_assert_str_eq(d->file, "t.yaml");
	cr_assert_str_eq(d->name, "d");
	cr_assert_str_eq(d->summary, "s");
	cr_assert_null(d->expected);
	cr_assert_eq(d->n_steps, 1);
	cr_assert_eq(d->steps[0].kind, STEP_WAIT);
	cr_assert_eq(d->steps[0].condition, WAIT_TIME);
	cr_assert_eq(d->steps[0].limit_ns, NS_PER_S);
	/* Defaults are filled in. */
	cr_assert_eq(d->steady_instances, 0);
	cr_assert_eq(d->steady_lag_bytes, 16UL << 20);
	cr_assert_eq(d->steady_for_ns, NS_PER_S);
	cr_assert_eq(d->interval_ns, 10 * NS_PER_MS);
	cr_assert_eq(d->fresh_interval_ns, 100 * NS_PER_MS);
	cr_assert_eq(d->slow_ns, 500 * NS_PER_MS);
	cr_assert_eq(d->recovery_limit_ns, 120 * NS_PER_S);
	cr_assert_eq(d->abort_time_ns, 900 * NS_PER_S);
	cr_assert_eq(d->abort_lag_bytes, 0);
}

static const char every_key[] =
	"drill: full\n"
	"summary: every key there is\n"
	"expectedBehaviour: |\n  two\n  lines\n"
	"sources: [one, \"two: 2\"]\n"
	"vars:\n  duration: 30s\n  who: replica:50%\n"
	"steadyState: {instances: 3, lag: 1MiB, for: 2s, limit: 30s}\n"
	"probes: {interval: 20ms, fresh: 200ms, slow: 1s}\n"
	"steps:\n"
	"  - inject: net-partition\n"
	"    name: cut\n"
	"    target: ${who}\n"
	"    for: ${duration}\n"
	"    params: {peers: [\"dcs:2379\", 10.0.0.0/24], direction: out}\n"
	"    mayMiss: true\n"
	"  - wait: promoted\n"
	"    limit: 80s\n"
	"    mayFail: true\n"
	"  - wait: time\n"
	"    limit: 3s\n"
	"  - wait: writes\n"
	"  - revert: cut\n"
	"  - revert: all\n"
	"  - parallel:\n"
	"      - inject: proc-kill\n"
	"        target: lab/pg1\n"
	"        for: 1s\n"
	"        params: {process: postmaster}\n"
	"      - - wait: 1s\n"
	"        - wait: reads\n"
	"  - repeat: 3\n"
	"    steps:\n"
	"      - wait: 1s\n"
	"recovery: {limit: 1m}\n"
	"expect:\n  ttd: 30s\n  writeTtr: {min: 1s, max: 60s}\n  lostCommits: 0\n"
	"  splitBrain: none\n  promoted: true\n"
	"abort: {lag: 1GiB, time: 10m, writesDown: 5m}\n";

Test(drill, every_key)
{
	_cleanup_(drill_freep) struct drill *d = parsed(every_key);
	const struct step *s = d->steps;

	cr_assert_str_eq(d->expected, "two\nlines\n");
	cr_assert_eq(strv_length(d->sources), 2);
	cr_assert_str_eq(d->sources[1], "two: 2");
	cr_assert_eq(d->steady_instances, 3);
	cr_assert_eq(d->steady_lag_bytes, 1UL << 20);
	cr_assert_eq(d->steady_for_ns, 2 * NS_PER_S);
	cr_assert_eq(d->steady_limit_ns, 30 * NS_PER_S);
	cr_assert_eq(d->interval_ns, 20 * NS_PER_MS);
	cr_assert_eq(d->fresh_interval_ns, 200 * NS_PER_MS);
	cr_assert_eq(d->slow_ns, NS_PER_S);
	cr_assert_eq(d->recovery_limit_ns, 60 * NS_PER_S);
	cr_assert_eq(d->abort_lag_bytes, 1UL << 30);
	cr_assert_eq(d->abort_time_ns, 600 * NS_PER_S);
	cr_assert_eq(d->abort_writes_down_ns, 300 * NS_PER_S);
	cr_assert_eq(d->n_expectations, 6);
	cr_assert_eq(d->n_steps, 8);

	cr_assert_eq(s[0].kind, STEP_INJECT);
	cr_assert_str_eq(s[0].fault->name, "net-partition");
	cr_assert_str_eq(s[0].name, "cut");
	cr_assert_eq(s[0].target.role, SELECT_REPLICA);
	cr_assert_eq(s[0].target.pick, PICK_PERCENT);
	cr_assert_eq(s[0].target.pick_count, 500000);
	cr_assert_eq(s[0].duration_ns, 30 * NS_PER_S);
	cr_assert(s[0].may_miss);
	cr_assert_eq(s[0].place.line, 13);
	cr_assert_eq(s[0].place.column, 5);
	cr_assert_str_eq(json_get(s[0].params, "direction")->valuestring, "out");
	cr_assert_eq(cJSON_GetArraySize(json_get(s[0].params, "peers")), 2);

	cr_assert_eq(s[1].condition, WAIT_PROMOTED);
	cr_assert_eq(s[1].limit_ns, 80 * NS_PER_S);
	cr_assert(s[1].may_fail);
	cr_assert_eq(s[2].condition, WAIT_TIME);
	cr_assert_eq(s[2].limit_ns, 3 * NS_PER_S);
	cr_assert_eq(s[3].condition, WAIT_WRITES);
	cr_assert_eq(s[3].limit_ns, 60 * NS_PER_S);
	cr_assert_eq(s[4].kind, STEP_REVERT);
	cr_assert_str_eq(s[4].reverts, "cut");
	cr_assert_null(s[5].reverts);
	cr_assert_eq(s[6].kind, STEP_PARALLEL);
	cr_assert_eq(s[6].n_steps, 2);
	cr_assert_str_eq(s[6].steps[0].target.name, "lab/pg1");
	cr_assert_eq(s[6].steps[1].kind, STEP_SEQUENCE);
	cr_assert_eq(s[6].steps[1].n_steps, 2);
	cr_assert_eq(s[7].kind, STEP_REPEAT);
	cr_assert_eq(s[7].count, 3);
}

Test(drill, variables)
{
	static const char text[] = HEAD "vars: {name: x, cost: 5$$, empty: ''}\n"
					"expectedBehaviour: ${name}${name} ${cost}${empty} $$5\n" STEPS;
	char *sets[] = {"name=a=b ${cost}", "empty=", "name=last", NULL};
	_cleanup_(drill_freep) struct drill *d = parsed(text);
	_cleanup_(drill_freep) struct drill *e = parsed_with(text, sets);

	cr_assert_str_eq(d->expected, "xx 5$ $5");
	/* A value is text, not a text with variables; the last --set counts. */
	cr_assert_str_eq(e->expected, "lastlast 5$ $5");
	sets[2] = NULL;
	drill_free(d);
	d = parsed_with(text, sets);
	cr_assert_str_eq(d->expected, "a=b ${cost}a=b ${cost} 5$ $5");
}

static void set_refused(const char *set, const char *words)
{
	char *sets[] = {(char *)set, NULL};
	static const char text[] = HEAD "vars: {one: 1, two: 2}\n" STEPS;
	_cleanup_free_ char *said = refusal_of(text, strlen(text), sets);

	cr_assert_str_eq(said, words);
}

Test(drill, sets_refused)
{
	static const char none[] = HEAD STEPS;
	char *sets[] = {"x=1", NULL};
	_cleanup_free_ char *said = refusal_of(none, strlen(none), sets);

	set_refused("one", "--set one: expected NAME=VALUE");
	set_refused("=1", "--set =1: expected NAME=VALUE");
	set_refused("three=1", "--set three=1: the drill has no such variable; it has: one, two");
	set_refused("on=1", "--set on=1: the drill has no such variable; it has: one, two");
	cr_assert_str_eq(said, "--set x=1: the drill has no such variable; it has: none");
}

/* A value that is set is checked where it is used. */
Test(drill, set_value_is_checked_at_its_use)
{
	static const char text[] = HEAD "vars: {d: 1s}\nsteps:\n  - wait: writes\n    limit: ${d}\n";
	char *sets[] = {"d=soon", NULL};
	_cleanup_free_ char *said = refusal_of(text, strlen(text), sets);

	cr_assert(strncmp(said, "t.yaml:6:12: ", 13) == 0, "%s", said);
	cr_assert(strstr(said, "soon"), "%s", said);
}

Test(drill, load)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_(drill_freep) struct drill *d = NULL;
	char *sets[] = {"peers=dcs", NULL};

	cr_assert_eq(drill_load("partition-primary", sets, &d, &err), 0, "%s", err_text(err));
	cr_assert_str_eq(d->name, "partition-primary");
	cr_assert_eq(drill_load("no-such", NULL, &d, &err), -EINVAL);
	cr_assert(strstr(err_text(err), "no built-in drill \"no-such\""), "%s", err_text(err));
	cr_assert(strstr(err_text(err), "kill-primary, "), "%s", err_text(err));
	cr_assert_eq(drill_load("./none.yaml", NULL, &d, &err), -EINVAL);
	cr_assert(strstr(err_text(err), "./none.yaml"), "%s", err_text(err));
	cr_assert_eq(drill_load("/", NULL, &d, &err), -EINVAL);
	cr_assert_eq(drill_load("/dev/zero", NULL, &d, &err), -EINVAL);
	cr_assert_eq(drill_load("none.yml", NULL, &d, &err), -EINVAL);
	cr_assert_eq(drill_load("", NULL, &d, &err), -EINVAL);
}

Test(drill, built_in)
{
	size_t n = 0;

	for (const struct builtin_drill *b = builtin_drills; b->name; b++, n++) {
		_cleanup_err_ struct err *err = NULL;
		_cleanup_(drill_freep) struct drill *d = NULL;

		cr_assert_eq(drill_load(b->name, NULL, &d, &err), 0, "%s", err_text(err));
		cr_assert_str_eq(d->name, b->name);
		cr_assert_not_null(d->expected, "%s says what is right", b->name);
		cr_assert_not_null(d->sources, "%s says where it comes from", b->name);
		cr_assert(d->n_expectations > 0, "%s expects something", b->name);
	}
	cr_assert_geq(n, 10);
}
