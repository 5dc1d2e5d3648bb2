#include "probe/ledger_check.h"

#include <stdlib.h>
#include <string.h>
#include "probe/schema.h"

#define PAGE_ROWS 10000

static const char page_sql[] =
	"SELECT client, sequence FROM " PROBE_TABLE " WHERE run = $1 AND (client, sequence) > ($2, $3) "
	"ORDER BY client, sequence LIMIT $4";

static int parse_key(const PGresult *result, int row, struct row_key *ret)
{
	char *end;
	long long client, sequence;

	if (PQgetisnull(result, row, 0) || PQgetisnull(result, row, 1))
		return -EINVAL;
	client = strtoll(PQgetvalue(result, row, 0), &end, 10);
	if (*end || client < 0 || client > INT32_MAX)
		return -EINVAL;
	sequence = strtoll(PQgetvalue(result, row, 1), &end, 10);
	if (*end || sequence < 0)
		return -EINVAL;
	*ret = (struct row_key){(uint32_t)client, (uint64_t)sequence};
	return 0;
}

int ledger_rows_read(struct probe_context *c, struct sql *s, struct row_key **ret, size_t *ret_n,
	struct err **err)
{
	_cleanup_free_ struct row_key *rows = NULL;
	char client[12] = "-1", sequence[24] = "0", limit[12];
	const char *values[] = {c->record->run, client, sequence, limit};
	size_t n = 0;
	int page;

	snprintf(limit, sizeof(limit), "%d", PAGE_ROWS);
	do {
		const PGresult *result;
		struct row_key *more;
		int r = sql_run(s, page_sql, 4, values, &result, err);

		/* A failover may have lost the table itself: then every row of it. */
		if (r == -ENOENT)
			break;
		if (r < 0)
			return err_wrap(err, r, "read the ledger's rows back");
		page = PQntuples(result);
		more = reallocarray(rows, n + (size_t)page + 1, sizeof(*rows));
		if (!more)
			return err_errno(err, -ENOMEM, "read the ledger's rows back");
		rows = more;
		for (int i = 0; i < page; i++)
			if (parse_key(result, i, &rows[n++]) < 0)
				return err_set(err, -EIO, "a row of " PROBE_TABLE " has a key that "
					"no probe wrote: client %s, sequence %s",
					PQgetvalue(result, i, 0), PQgetvalue(result, i, 1));
		if (page > 0) {
			snprintf(client, sizeof(client), "%u", rows[n - 1].client);
			snprintf(sequence, sizeof(sequence), "%lu", rows[n - 1].sequence);
		}
	} while (page == PAGE_ROWS);
	*ret = steal_ptr(rows);
	*ret_n = n;
	return 0;
}

/* What is known of one key. Sequences of a client are dense from 1, so they index an array. */
enum {
	KEY_OUTCOME = 3,	/* mask: 0 none, 1 + enum outcome */
	KEY_FOUND = 4,
};

struct client_keys {
	uint8_t *keys;		/* by sequence */
	uint64_t n;		/* highest sequence + 1 */
};

static void note_attempts(const struct run_record *r, struct client_keys *clients)
{
	for (size_t i = 0; i < r->n_attempts; i++) {
		const struct attempt *a = &r->attempts[i];

		if (a->sequence >= clients[a->client].n)
			clients[a->client].n = a->sequence + 1;
	}
	for (size_t i = 0; i < r->n_clients; i++) {
		clients[i].keys = calloc(clients[i].n + 1, 1);
		if (!clients[i].keys)
			abort();
	}
	for (size_t i = 0; i < r->n_attempts; i++) {
		const struct attempt *a = &r->attempts[i];

		if (r->clients[a->client].kind != PROBE_WRITER)
			continue;
		clients[a->client].keys[a->sequence] = (uint8_t)(1 + a->outcome);
	}
}

void ledger_count(struct run_record *r)
{
	struct ledger_check *l = &r->ledger;

	l->attempted = l->ok = l->failed = l->unknown = 0;
	for (size_t i = 0; i < r->n_attempts; i++) {
		enum outcome outcome = r->attempts[i].outcome;

		if (r->clients[r->attempts[i].client].kind != PROBE_WRITER)
			continue;
		l->attempted++;
		l->ok += outcome == OUTCOME_OK;
		l->failed += outcome == OUTCOME_FAIL;
		l->unknown += outcome == OUTCOME_UNKNOWN;
	}
}

static void count_row(struct run_record *r, struct client_keys *clients, const struct row_key *row)
{
	uint8_t *key = NULL, outcome;

	if (row->client < r->n_clients && row->sequence < clients[row->client].n)
		key = &clients[row->client].keys[row->sequence];
	r->ledger.found++;
	if (key && (*key & KEY_FOUND)) {	/* the same key twice: the index is broken */
		r->ledger.unexpected++;
		return;
	}
	outcome = key ? *key & KEY_OUTCOME : 0;
	if (outcome == 1 + OUTCOME_UNKNOWN)
		r->ledger.recovered++;
	else if (outcome != 1 + OUTCOME_OK)
		r->ledger.unexpected++;
	if (key)
		*key |= KEY_FOUND;
}

static void add_lost(struct ledger_check *l, uint32_t client, uint64_t sequence)
{
	l->lost++;
	if (l->n_lost_keys < LOST_KEYS_MAX)
		l->lost_keys[l->n_lost_keys++] = (struct lost_key){client, sequence};
}

void ledger_compare(struct run_record *r, const struct row_key *rows, size_t n)
{
	_cleanup_free_ struct client_keys *clients = calloc(r->n_clients + 1, sizeof(*clients));

	free(r->ledger.lost_keys);
	free(r->ledger.error);
	r->ledger = (struct ledger_check){.done = true};
	r->ledger.lost_keys = calloc(LOST_KEYS_MAX, sizeof(*r->ledger.lost_keys));
	if (!clients || !r->ledger.lost_keys)
		abort();
	ledger_count(r);
	note_attempts(r, clients);
	for (size_t i = 0; i < n; i++)
		count_row(r, clients, &rows[i]);
	for (uint32_t i = 0; i < r->n_clients; i++) {
		for (uint64_t k = 0; k < clients[i].n; k++)
			if (clients[i].keys[k] == 1 + OUTCOME_OK)
				add_lost(&r->ledger, i, k);
		free(clients[i].keys);
	}
}
