#include <criterion/criterion.h>
#include <string.h>
#include "run/run_record.h"

Test(run_record, words_go_both_ways)
{
	for (int i = 0; i < EVENT_KIND_MAX; i++) {
		enum event_kind back = EVENT_KIND_MAX;

		cr_assert_not_null(event_kind_to_string(i), "event kind %d has no word", i);
		cr_assert_eq(event_kind_from_string(event_kind_to_string(i), &back), 0);
		cr_assert_eq((int)back, i);
	}
	for (int i = 0; i < OUTCOME_MAX; i++)
		cr_assert_not_null(outcome_to_string(i));
	for (int i = 0; i < VERDICT_MAX; i++)
		cr_assert_not_null(run_verdict_to_string(i));
	cr_assert_str_eq(probe_way_to_string(WAY_CLIENTS), "clients");
	cr_assert_str_eq(probe_kind_to_string(PROBE_READER), "reader");
	cr_assert_null(outcome_to_string(OUTCOME_MAX));
}

Test(run_record, keeps_order_while_it_grows)
{
	_cleanup_(run_record_freep) struct run_record *r = run_record_new();
	char value[] = "fail";

	for (uint64_t i = 0; i < 1000; i++) {
		struct attempt a = {.sequence = i};
		struct observation o = {.lsn = i};

		run_record_add_attempt(r, &a);
		run_record_add_observation(r, &o);
		run_record_add_event(r, i, EVENT_NOTE, -1, value, 0, "event %lu", i);
	}
	value[0] = 'x';
	cr_assert_eq(r->n_attempts, 1000);
	cr_assert_eq(r->n_observations, 1000);
	for (uint64_t i = 0; i < 1000; i++) {
		cr_assert_eq(r->attempts[i].sequence, i);
		cr_assert_eq(r->observations[i].lsn, i);
		cr_assert_str_eq(r->events[i].value, "fail");
	}
	cr_assert_str_eq(r->events[999].text, "event 999");
}

Test(run_record, finds_instances_by_name)
{
	_cleanup_(run_record_freep) struct run_record *r = run_record_new();

	r->n_instances = 2;
	r->instances = calloc(2, sizeof(*r->instances));
	r->instances[0].name = strdup("lab/pg1");
	r->instances[1].name = strdup("lab/pg2");
	cr_assert_eq(run_record_find_instance(r, "lab/pg2"), 1);
	cr_assert_eq(run_record_find_instance(r, "lab/pg3"), -1);
}

/* A pod that stays, or is made anew on its node, has no other; one that moves has the last it was seen on. */
Test(run_record, last_node)
{
	struct run_instance n = {.node = strdup("node1")};

	run_instance_is_on(&n, "node1");
	cr_assert_null(n.last_node);
	run_instance_is_on(&n, "node2");
	run_instance_is_on(&n, "node2");
	cr_assert_str_eq(n.last_node, "node2");
	run_instance_is_on(&n, "node3");
	cr_assert_str_eq(n.last_node, "node3");
	cr_assert_str_eq(n.node, "node1");
	free(n.node);
	free(n.last_node);
}
