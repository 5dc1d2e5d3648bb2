#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "probe/conninfo.h"

static void clean_environment(void)
{
	static const char *const names[] = {"PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGUSER",
		"PGSERVICEFILE", "PGDATABASE", "PGPASSWORD"};

	for (size_t i = 0; i < ELEMENTS(names); i++)
		unsetenv(names[i]);
}

TestSuite(conninfo, .init = clean_environment);

static struct run_record *record_new(void)
{
	static const char *const hosts[] = {"10.0.0.1", "10.0.0.2", "fd00::3"};
	struct run_record *r = run_record_new();

	r->n_instances = 3;
	r->instances = calloc(3, sizeof(*r->instances));
	for (size_t i = 0; i < 3; i++) {
		r->instances[i].name = strdup("pg");
		r->instances[i].host = strdup(hosts[i]);
		r->instances[i].port = 5432;
	}
	return r;
}

static struct pg_endpoints endpoints(const char *conninfo)
{
	_cleanup_(run_record_freep) struct run_record *r = record_new();
	_cleanup_(pg_settings_freep) struct pg_settings *s = NULL;
	struct pg_endpoints list = {0};
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(pg_settings_new(conninfo, NULL, &s, &err), 0, "%s", err_text(err));
	cr_assert_eq(pg_settings_endpoints(s, r, &list, &err), 0, "%s", err_text(err));
	return list;
}

Test(conninfo, instances_where_no_host_is_given)
{
	struct pg_endpoints e = endpoints("user=app");

	cr_assert_eq(e.count, 3);
	cr_assert_str_eq(e.items[1].address, "10.0.0.2");
	cr_assert_eq(e.items[1].instance, 1);
	pg_endpoints_done(&e);
}

Test(conninfo, hosts_of_the_user)
{
	struct pg_endpoints e = endpoints("host=10.0.0.2,db.example,/run/pg port=5432,6432,5433");

	cr_assert_eq(e.count, 3);
	cr_assert_eq(e.items[0].instance, 1);
	cr_assert_str_eq(e.items[0].address, "10.0.0.2");
	cr_assert_null(e.items[1].address);
	cr_assert_eq(e.items[1].port, 6432);
	cr_assert_eq(e.items[1].instance, -1);
	cr_assert(e.items[2].socket);
	cr_assert_null(e.items[2].address);
	pg_endpoints_done(&e);
}

Test(conninfo, one_port_is_for_all_hosts)
{
	struct pg_endpoints e = endpoints("host=10.0.0.1,10.0.0.2 port=5439");

	cr_assert_eq(e.count, 2);
	cr_assert_eq(e.items[0].port, 5439);
	cr_assert_eq(e.items[1].port, 5439);
	cr_assert_eq(e.items[0].instance, -1);	/* another port: another server */
	pg_endpoints_done(&e);
}

Test(conninfo, addresses_stand_for_names)
{
	struct pg_endpoints e = endpoints("host=one,two hostaddr=10.0.0.1,10.0.0.9");

	cr_assert_eq(e.count, 2);
	cr_assert_str_eq(e.items[0].host, "one");
	cr_assert_str_eq(e.items[0].address, "10.0.0.1");
	cr_assert_eq(e.items[0].instance, 0);
	cr_assert_eq(e.items[1].instance, -1);
	pg_endpoints_done(&e);
}

Test(conninfo, environment_counts)
{
	struct pg_endpoints e;

	setenv("PGHOST", "10.0.0.9", 1);
	setenv("PGPORT", "5440", 1);
	e = endpoints(NULL);
	cr_assert_eq(e.count, 1);
	cr_assert_eq(e.items[0].port, 5440);
	pg_endpoints_done(&e);
}

Test(conninfo, the_same_address_in_another_spelling)
{
	_cleanup_(run_record_freep) struct run_record *r = record_new();

	cr_assert_eq(pg_find_instance(r, "fd00:0:0::3", 5432), 2);
	cr_assert_eq(pg_find_instance(r, "10.0.0.1", 5433), -1);
	free(r->instances[1].host);
	r->instances[1].host = strdup("10.0.0.1");
	cr_assert_eq(pg_find_instance(r, "10.0.0.1", 5432), -1, "two claim it: unknown");
}

Test(conninfo, mistakes_are_said_in_libpqs_words)
{
	static const char *const wrong[] = {"nonsense", "frobnicate=1", "host=a,b port=1,2,3",
		"service=no-such-service", "host=a sslmode=never-heard", "host=a port=70000"};

	setenv("PGSERVICEFILE", "/dev/null", 1);
	for (size_t i = 0; i < ELEMENTS(wrong); i++) {
		_cleanup_(run_record_freep) struct run_record *r = record_new();
		_cleanup_(pg_settings_freep) struct pg_settings *s = NULL;
		_cleanup_err_ struct err *err = NULL;
		struct pg_endpoints list = {0};
		int e = pg_settings_new(wrong[i], NULL, &s, &err);

		if (e == 0)
			e = pg_settings_endpoints(s, r, &list, &err);
		cr_assert_eq(e, -EINVAL, "%s was taken", wrong[i]);
		cr_assert(strstr(err_text(err), "connection settings"), "%s", err_text(err));
	}
}
