#include "../manager/data.h"

#include <errno.h>

#include "run/ways.h"

static char *primary[] = {"10.244.1.5", "fd00::5", NULL};
static char *replicas[] = {"10.244.2.6", "10.244.2.7", NULL};

static bool pick(const char *hint, bool write, char *const *leads, struct service_way *ret)
{
	_cleanup_json_ cJSON *data = data_load("services.json");
	_cleanup_(services_done) struct services services = {0};
	struct way_question q = {&services, leads, replicas, 5432};

	services_of_objects(json_get(data, "services"), NULL, json_get(data, "endpoints"), &services);
	*ret = (struct service_way){0};
	return service_pick(&q, hint, write, ret);
}

static void is(const char *hint, bool write, const char *name, const char *address, uint16_t port)
{
	struct service_way w;

	cr_assert(pick(hint, write, primary, &w), "%s %d", hint ? hint : "by endpoints", write);
	cr_assert_str_eq(w.name, name);
	cr_assert_str_eq(w.address, address);
	cr_assert_eq(w.port, port);
	free(w.name);
	free(w.address);
}

Test(ways, by_the_managers_name)
{
	is("main-rw", true, "main-rw", "10.96.0.1", 5432);
	is("main-ro", false, "main-ro", "10.96.0.2", 5432);
	is("odd-port", false, "odd-port", "10.96.0.6", 6543);
}

Test(ways, by_what_is_behind)
{
	is(NULL, true, "main-rw", "10.96.0.1", 5432);
	is(NULL, false, "main-ro", "10.96.0.2", 5432);
	is("not-there", true, "main-rw", "10.96.0.1", 5432);
	is("headless", true, "main-rw", "10.96.0.1", 5432);
	is("external", true, "main-rw", "10.96.0.1", 5432);
	is("broken", true, "main-rw", "10.96.0.1", 5432);
}

Test(ways, none)
{
	static char *elsewhere[] = {"10.244.9.9", NULL};
	struct service_way w;

	cr_assert(!pick(NULL, true, elsewhere, &w));
	cr_assert(!pick(NULL, true, NULL, &w));
	cr_assert_null(w.name);
	cr_assert(!service_pick(&(struct way_question){.services = &(struct services){0}}, "x", true, &w));
}

static int login(const char *text, struct pg_login *ret, struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &json, NULL), 0, "%s", text);
	*ret = (struct pg_login){0};
	return login_from_secret(json, ret, err);
}

Test(ways, logins)
{
	struct pg_login l;

	/* app, s3cret, shop */
	cr_assert_eq(login("{\"data\": {\"username\": \"YXBw\", \"password\": \"czNjcmV0\", \"dbname\": \"c2hvcA==\"}}",
		&l, NULL), 0);
	cr_assert_str_eq(l.user, "app");
	cr_assert_str_eq(l.password, "s3cret");
	cr_assert_str_eq(l.database, "shop");
	pg_login_done(&l);
	cr_assert_null(l.password);
	cr_assert_eq(login("{\"data\": {\"user\": \"YXBw\"}}", &l, NULL), 0, "a user without a password");
	cr_assert_str_eq(l.user, "app");
	cr_assert_null(l.password);
	pg_login_done(&l);
	cr_assert_eq(login("{\"data\": {\"username\": \"YXBw\", \"dbname\": \"Kg==\"}}", &l, NULL), 0);
	cr_assert_null(l.database, "any database");
	pg_login_done(&l);
}

Test(ways, logins_that_are_none)
{
	static const char *const wrong[] = {"{}", "[]", "{\"data\": []}", "{\"data\": {\"password\": \"czNjcmV0\"}}",
		"{\"data\": {\"username\": 7}}", "{\"data\": {\"username\": \"\"}}",
		"{\"data\": {\"username\": \"YXBw\", \"password\": \"czNjcmV0!!\"}}",
		"{\"data\": {\"username\": \"YQBi\"}}"};

	for (size_t i = 0; i < ELEMENTS(wrong); i++) {
		struct err *err = NULL;
		struct pg_login l;

		cr_assert_eq(login(wrong[i], &l, &err), -EINVAL, "%s", wrong[i]);
		cr_assert(!strstr(err_text(err), "s3cret") && !strstr(err_text(err), "czNj"), "%s", err_text(err));
		cr_assert_null(l.user);
		cr_assert_null(l.password);
		err_free(err);
	}
}
