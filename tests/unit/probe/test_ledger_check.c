#include <criterion/criterion.h>
#include <string.h>
#include "probe/ledger_check.h"

static struct run_record *record_new(size_t n_clients)
{
	struct run_record *r = run_record_new();

	r->n_clients = n_clients;
	r->clients = calloc(n_clients, sizeof(*r->clients));
	return r;
}

static void add(struct run_record *r, uint32_t client, uint64_t sequence, enum outcome outcome)
{
	struct attempt a = {.client = client, .sequence = sequence, .outcome = outcome};

	run_record_add_attempt(r, &a);
}

Test(ledger_check, counts_each_kind)
{
	_cleanup_(run_record_freep) struct run_record *r = record_new(3);
	const struct row_key rows[] = {
		{0, 1},			/* ok and found */
		{0, 4},			/* unknown and found: recovered */
		{0, 3},			/* failed and found: unexpected */
		{0, 99}, {7, 1}, {0, 0},/* never tried: unexpected */
		{2, 1},			/* a reader writes nothing: unexpected */
	};

	r->clients[2].kind = PROBE_READER;
	add(r, 0, 1, OUTCOME_OK);
	add(r, 0, 2, OUTCOME_OK);	/* lost */
	add(r, 0, 3, OUTCOME_FAIL);
	add(r, 0, 5, OUTCOME_UNKNOWN);
	add(r, 0, 4, OUTCOME_UNKNOWN);
	add(r, 1, 1, OUTCOME_OK);	/* lost */
	add(r, 2, 1, OUTCOME_OK);
	ledger_compare(r, rows, ELEMENTS(rows));
	cr_assert(r->ledger.done);
	cr_assert_eq(r->ledger.attempted, 6);
	cr_assert_eq(r->ledger.ok, 3);
	cr_assert_eq(r->ledger.failed, 1);
	cr_assert_eq(r->ledger.unknown, 2);
	cr_assert_eq(r->ledger.found, 7);
	cr_assert_eq(r->ledger.lost, 2);
	cr_assert_eq(r->ledger.recovered, 1);
	cr_assert_eq(r->ledger.unexpected, 5);
	cr_assert_eq(r->ledger.n_lost_keys, 2);
	cr_assert_eq(r->ledger.lost_keys[0].client, 0);
	cr_assert_eq(r->ledger.lost_keys[0].sequence, 2);
	cr_assert_eq(r->ledger.lost_keys[1].client, 1);
}

Test(ledger_check, counts_attempts_alone)
{
	_cleanup_(run_record_freep) struct run_record *r = record_new(2);

	r->clients[1].kind = PROBE_READER;
	add(r, 0, 1, OUTCOME_OK);
	add(r, 0, 2, OUTCOME_FAIL);
	add(r, 0, 3, OUTCOME_UNKNOWN);
	add(r, 1, 1, OUTCOME_OK);
	for (int again = 0; again < 2; again++) {
		ledger_count(r);
		cr_expect_eq(r->ledger.attempted, 3);
		cr_expect_eq(r->ledger.ok, 1);
		cr_expect_eq(r->ledger.failed, 1);
		cr_expect_eq(r->ledger.unknown, 1);
		cr_expect_not(r->ledger.done);
	}
}

Test(ledger_check, same_row_twice_is_unexpected)
{
	_cleanup_(run_record_freep) struct run_record *r = record_new(1);
	const struct row_key rows[] = {{0, 1}, {0, 1}};

	add(r, 0, 1, OUTCOME_OK);
	ledger_compare(r, rows, ELEMENTS(rows));
	cr_assert_eq(r->ledger.unexpected, 1);
	cr_assert_eq(r->ledger.lost, 0);
}

Test(ledger_check, keeps_a_hundred_lost_keys_and_counts_all)
{
	_cleanup_(run_record_freep) struct run_record *r = record_new(1);

	for (uint64_t i = 1; i <= 250; i++)
		add(r, 0, i, OUTCOME_OK);
	ledger_compare(r, NULL, 0);
	cr_assert_eq(r->ledger.lost, 250);
	cr_assert_eq(r->ledger.n_lost_keys, LOST_KEYS_MAX);
	/* Again, as a second check does: nothing adds up. */
	ledger_compare(r, NULL, 0);
	cr_assert_eq(r->ledger.lost, 250);
}
