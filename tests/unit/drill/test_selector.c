#include <criterion/criterion.h>
#include <errno.h>

#include "drill/drill.h"

static void is(const char *text, enum select_role role, enum select_pick pick, uint32_t count)
{
	struct selector s = {0};

	cr_assert_eq(selector_parse(text, &s, NULL), 0, "%s", text);
	cr_assert_str_eq(s.text, text);
	cr_assert_null(s.name);
	cr_assert_eq(s.role, role, "%s", text);
	cr_assert_eq(s.pick, pick, "%s", text);
	cr_assert_eq(s.pick_count, count, "%s", text);
	selector_done(&s);
}

Test(selector, roles_and_picks)
{
	is("primary", SELECT_PRIMARY, PICK_ONE, 0);
	is("replica", SELECT_REPLICA, PICK_ONE, 0);
	is("replicas", SELECT_REPLICA, PICK_ALL, 0);
	is("any", SELECT_ANY, PICK_ONE, 0);
	is("all", SELECT_ANY, PICK_ALL, 0);
	is("replicas:one", SELECT_REPLICA, PICK_ONE, 0);
	is("replica:all", SELECT_REPLICA, PICK_ALL, 0);
	is("replica:2", SELECT_REPLICA, PICK_COUNT, 2);
	is("any:1000", SELECT_ANY, PICK_COUNT, 1000);
	is("any:50%", SELECT_ANY, PICK_PERCENT, 500000);
	is("any:0.0001%", SELECT_ANY, PICK_PERCENT, 1);
	is("all:100%", SELECT_ANY, PICK_PERCENT, 1000000);
}

Test(selector, names)
{
	struct selector s = {0};

	cr_assert_eq(selector_parse("lab/pg1", &s, NULL), 0);
	cr_assert_str_eq(s.name, "lab/pg1");
	selector_done(&s);
	cr_assert_eq(selector_parse("replica/pg1", &s, NULL), 0);
	cr_assert_str_eq(s.name, "replica/pg1");
	selector_done(&s);
}

Test(selector, refused)
{
	static const char *const bad[] = {"", "master", "Primary", "primary ", " primary", "primary:", "replica:0",
		"replica:1001", "replica:-1", "replica:one:all", "replica:101%", "replica:0%", "replica:%",
		"replica:x%", "replica:some", "replica:1.5", "pg1", "/pg1", "lab/", "/", ":one"};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		_cleanup_err_ struct err *err = NULL;
		struct selector s = {0};

		cr_assert_eq(selector_parse(bad[i], &s, &err), -EINVAL, "%s", bad[i]);
		cr_assert(strstr(err_text(err), bad[i]), "%s", err_text(err));
		cr_assert_null(s.text);
	}
}
