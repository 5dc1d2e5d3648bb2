/* Which instances a selector names. */
#include "fake.h"

static const struct run_options options = {.seed = 7};

static struct run fake_run(struct cluster c)
{
	return (struct run){.options = &options, .cluster = c};
}

/* The names that were picked, in the order of picking, blanks between; or the refusal's words. */
static char *picked(struct run *r, const char *text)
{
	_cleanup_free_ const struct target **list = NULL;
	_cleanup_err_ struct err *err = NULL;
	struct selector s = {0};
	char *names = strdup("");
	size_t n = 0;

	cr_assert_eq(selector_parse(text, &s, &err), 0, "%s", err_text(err));
	if (run_pick(r, &s, &list, &n, &err) < 0) {
		free(names);
		names = strdup(err_text(err));
		n = 0;
	}
	for (size_t i = 0; i < n; i++) {
		char *longer = NULL;

		cr_assert_gt(asprintf(&longer, "%s%s%s", names, i ? " " : "", list[i]->info->member), 0);
		free(names);
		names = longer;
	}
	selector_done(&s);
	return names;
}

static void is(struct run *r, const char *text, const char *wanted)
{
	_cleanup_free_ char *got = picked(r, text);

	cr_assert_str_eq(got, wanted, "%s: %s, wanted %s", text, got, wanted);
}

static size_t count(struct run *r, const char *text)
{
	_cleanup_free_ char *got = picked(r, text);
	size_t n = *got != 0;

	cr_assert(!strstr(got, "wanted"), "%s: %s", text, got);
	for (const char *p = got; *p; p++)
		n += *p == ' ';
	return n;
}

Test(targets, roles)
{
	struct run r = fake_run(fake_cluster());

	is(&r, "primary", "pg1");
	is(&r, "primary:all", "pg1");
	is(&r, "lab/pg3", "pg3");
	cr_assert_eq(count(&r, "replica"), 1);
	cr_assert_eq(count(&r, "replicas"), 2);
	cr_assert_eq(count(&r, "any"), 1);
	cr_assert_eq(count(&r, "all"), 3);
	cr_assert_eq(count(&r, "any:2"), 2);
	is(&r, "primary:2", "target \"primary:2\": 2 of them wanted, there are 1");
	is(&r, "replica:3", "target \"replica:3\": 3 of them wanted, there are 2");
	is(&r, "lab/pg9", "target: no instance \"lab/pg9\"; there are: lab/pg1, lab/pg2, lab/pg3");
	cluster_done(&r.cluster);
}

Test(targets, percent)
{
	struct run r = fake_run(fake_cluster());

	/* Rounded up, never none. */
	cr_assert_eq(count(&r, "any:0.0001%"), 1);
	cr_assert_eq(count(&r, "any:33%"), 1);
	cr_assert_eq(count(&r, "any:34%"), 2);
	cr_assert_eq(count(&r, "any:67%"), 3);
	cr_assert_eq(count(&r, "any:100%"), 3);
	cr_assert_eq(count(&r, "replica:50%"), 1);
	cr_assert_eq(count(&r, "replica:51%"), 2);
	cluster_done(&r.cluster);
}

Test(targets, who_leads)
{
	struct run r = fake_run(fake_cluster());

	fake_view(&r.cluster, "pg2");
	is(&r, "primary", "pg2");
	for (int i = 0; i < 20; i++) {
		_cleanup_free_ char *got = picked(&r, "replica");

		r.next_experiment++;
		cr_assert_str_neq(got, "pg2");
	}
	/* Nobody leads and two claim to: there is no primary, and neither of them is a replica. */
	fake_view(&r.cluster, NULL);
	r.cluster.targets.items[1].info->role = ROLE_PRIMARY;
	is(&r, "primary", "target \"primary\": 1 of them wanted, there are 0");
	is(&r, "replica", "pg3");
	cr_assert_eq(count(&r, "all"), 3);
	cluster_done(&r.cluster);
}

/* The same seed, the same picks; over many picks each one's turn comes. */
Test(targets, seeded)
{
	struct run r = fake_run(fake_cluster());
	unsigned seen[3] = {0};

	for (r.next_experiment = 0; r.next_experiment < 300; r.next_experiment++) {
		_cleanup_free_ char *a = picked(&r, "any"), *b = picked(&r, "any");

		cr_assert_str_eq(a, b);
		seen[a[2] - '1']++;
	}
	for (int i = 0; i < 3; i++)
		cr_assert(seen[i] > 60, "pg%d: %u of 300", i + 1, seen[i]);
	/* None is picked twice. */
	for (r.next_experiment = 0; r.next_experiment < 50; r.next_experiment++) {
		_cleanup_free_ char *a = picked(&r, "all");

		cr_assert(strstr(a, "pg1") && strstr(a, "pg2") && strstr(a, "pg3"), "%s", a);
	}
	cluster_done(&r.cluster);
}

Test(targets, empty)
{
	struct run r = fake_run(fake_cluster());
	size_t n = r.cluster.targets.count;

	r.cluster.targets.count = 0;
	is(&r, "all", "target \"all\": 1 of them wanted, there are 0");
	is(&r, "any:50%", "target \"any:50%\": 1 of them wanted, there are 0");
	is(&r, "lab/pg1", "target: no instance \"lab/pg1\"; there are: none");
	r.cluster.targets.count = n;
	cluster_done(&r.cluster);
}
