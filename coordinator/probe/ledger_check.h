/* After the heal: the rows of this run in the database against the attempts in the record. */
#pragma once

#include "probe/probe_context.h"

/* Lost keys are kept up to this many. */
#define LOST_KEYS_MAX 100

struct row_key {
	uint32_t client;
	uint64_t sequence;
};

/* Reads the run's rows through s, page by page in the order of their key. Caller frees *ret. */
int ledger_rows_read(struct probe_context *c, struct sql *s, struct row_key **ret, size_t *ret_n,
	struct err **err);
/* Pure: counts the writers' attempts alone, for a run whose rows are not compared. */
void ledger_count(struct run_record *r);
/* Pure: fills record->ledger from the writers' attempts and the rows (in any order). */
void ledger_compare(struct run_record *r, const struct row_key *rows, size_t n);
