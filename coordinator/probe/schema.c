#include "probe/schema.h"

#include <string.h>
#include "core/clock.h"

#define MADE_BY_US "made by pgjolt for its probes, removed after the run"
#define SHOWS_WITHIN_NS (3 * NS_PER_S)

static const char table_shows[] = "SELECT to_regclass('" PROBE_TABLE "') IS NOT NULL";

static int make_table(struct sql *s, struct err **err)
{
	static const char *const statements[] = {
		"CREATE SCHEMA IF NOT EXISTS " PROBE_SCHEMA,
		"COMMENT ON SCHEMA " PROBE_SCHEMA " IS '" MADE_BY_US "'",
		"CREATE TABLE IF NOT EXISTS " PROBE_TABLE " (run text NOT NULL, "
		"client integer NOT NULL, sequence bigint NOT NULL, "
		"PRIMARY KEY (run, client, sequence))",
	};

	for (size_t i = 0; i < ELEMENTS(statements); i++) {
		int r = sql_run(s, statements[i], 0, NULL, NULL, err);

		if (r == -EACCES)
			return err_wrap(err, r, "the role needs CREATE on the database (GRANT CREATE ON "
				"DATABASE ... TO ...), or an administrator makes " PROBE_TABLE
				" (run text, client integer, sequence bigint, primary key of "
				"all three) and grants SELECT, INSERT, DELETE on it");
		if (r < 0)
			return r;
	}
	return 0;
}

/* The table was there: left by a run that was cut short or kept, or made by an administrator. */
static int check_table(const struct probe_context *c, struct sql *s, struct err **err)
{
	static const char has_run[] = "SELECT EXISTS (SELECT FROM " PROBE_TABLE " WHERE run = $1)";
	static const char has_rights[] =
		"SELECT has_schema_privilege('" PROBE_SCHEMA "', 'USAGE') AND "
		"has_table_privilege('" PROBE_TABLE "', 'SELECT') AND "
		"has_table_privilege('" PROBE_TABLE "', 'INSERT') AND "
		"has_table_privilege('" PROBE_TABLE "', 'DELETE')";
	const char *values[] = {c->record->run};
	const PGresult *result;
	int r = sql_run(s, has_rights, 0, NULL, &result, err);

	if (r == 0 && strcmp(sql_first(result), "t") != 0)
		r = err_set(err, -EACCES, "the role needs USAGE on schema " PROBE_SCHEMA
			" and SELECT, INSERT, DELETE on " PROBE_TABLE);
	if (r == 0)
		r = sql_run(s, has_run, 1, values, &result, err);
	if (r == 0 && strcmp(sql_first(result), "t") == 0)
		r = err_set(err, -EEXIST, PROBE_TABLE " already has rows of run %s", values[0]);
	return r;
}

/* Readers that ask a replica for a table that it does not have yet would report a failure. */
static void wait_until_shown(struct probe_context *c, size_t instance)
{
	uint64_t deadline = now_ns() + SHOWS_WITHIN_NS;
	_cleanup_(sql_freep) struct sql *s = NULL;
	const PGresult *result;

	if (sql_new(c, probe_straight(c, instance), SESSION_ANY, &s, NULL) < 0)
		return;
	while (now_ns() < deadline) {
		if (sql_run(s, table_shows, 0, NULL, &result, NULL) < 0 ||
			strcmp(sql_first(result), "t") == 0)
			return;
		if (sd_event_run(c->event, 5000) < 0)
			return;
	}
}

int schema_prepare(struct probe_context *c, struct err **err)
{
	_cleanup_(sql_freep) struct sql *s = NULL;
	const PGresult *result;
	int r;

	r = sql_new(c, probe_clients_way(c), SESSION_WRITE, &s, err);
	if (r == 0)
		r = sql_run(s, table_shows, 0, NULL, &result, err);
	if (r == 0)
		r = strcmp(sql_first(result), "t") == 0 ? check_table(c, s, err) : make_table(s, err);
	if (r < 0)
		return err_wrap(err, r, "prepare the probes' table");
	for (size_t i = 0; c->options.straight && i < c->record->n_instances; i++)
		wait_until_shown(c, i);
	return 0;
}

int schema_remove(struct probe_context *c, struct sql *s, struct err **err)
{
	static const char ours_alone[] =
		"SELECT obj_description(n.oid, 'pg_namespace') = '" MADE_BY_US "' AND "
		"pg_has_role(n.nspowner, 'USAGE') AND "
		"NOT EXISTS (SELECT FROM " PROBE_TABLE " WHERE run <> $1) "
		"FROM pg_namespace n WHERE nspname = '" PROBE_SCHEMA "'";
	const char *values[] = {c->record->run};
	const PGresult *result;
	int r;

	r = sql_run(s, ours_alone, 1, values, &result, err);
	if (r == 0 && strcmp(sql_first(result), "t") == 0)
		r = sql_run(s, "DROP SCHEMA IF EXISTS " PROBE_SCHEMA " CASCADE", 0, NULL, NULL, err);
	else if (r == 0)
		r = sql_run(s, "DELETE FROM " PROBE_TABLE " WHERE run = $1", 1, values, NULL, err);
	if (r < 0 && r != -ENOENT)
		return err_wrap(err, r, "remove the probes' table");
	return 0;
}
