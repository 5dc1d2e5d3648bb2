#include <criterion/criterion.h>
#include <string.h>
#include "core/err.h"

Test(err, sets_code_and_words)
{
	_cleanup_err_ struct err *e = NULL;

	cr_assert_eq(err_set(&e, EBUSY, "%s is %d", "x", 7), -EBUSY);
	cr_assert_eq(e->code, -EBUSY);
	cr_assert_str_eq(err_text(e), "x is 7");
	cr_assert_eq(e->place, 0);
}

Test(err, negative_and_positive_codes_are_the_same_and_zero_is_never_returned)
{
	cr_assert_eq(err_set(NULL, -EBUSY, "x"), -EBUSY);
	cr_assert_eq(err_errno(NULL, EBUSY, "x"), -EBUSY);
	cr_assert_eq(err_wrap(NULL, EBUSY, "x"), -EBUSY);
	cr_assert_lt(err_set(NULL, 0, "x"), 0);
}

Test(err, errno_adds_strerror)
{
	_cleanup_err_ struct err *e = NULL;

	err_errno(&e, -ENOENT, "open %s", "/x");
	cr_assert_str_eq(err_text(e), "open /x: No such file or directory");
}

Test(err, wraps_on_the_way_up)
{
	_cleanup_err_ struct err *e = NULL;

	err_errno(&e, ENOENT, "open netns");
	cr_assert_eq(err_wrap(&e, ESTALE, "arm %s", "net-partition"), -ESTALE);
	cr_assert_str_eq(err_text(e), "arm net-partition: open netns: No such file or directory");
	cr_assert_eq(e->code, -ESTALE);
}

Test(err, wraps_nothing_with_strerror)
{
	_cleanup_err_ struct err *e = NULL;

	err_wrap(&e, -EPERM, "ask");
	cr_assert_str_eq(err_text(e), "ask: Operation not permitted");
}

Test(err, replaces_and_may_use_the_old_words)
{
	_cleanup_err_ struct err *e = NULL;

	err_set(&e, EINVAL, "first");
	err_set(&e, EIO, "%s, then second", err_text(e));
	cr_assert_str_eq(err_text(e), "first, then second");
	cr_assert_eq(e->code, -EIO);
}

Test(err, text_is_never_null)
{
	struct err blank = {.code = -ENOSPC};

	cr_assert_str_eq(err_text(NULL), "no error");
	cr_assert_str_eq(err_text(&blank), strerror(ENOSPC));
	err_free(NULL);
}

Test(err, status_maps_both_ways)
{
	static const struct {
		int code, status;
	} table[] = {
		{-EINVAL, 400}, {-EPERM, 403}, {-ENOENT, 404}, {-EBUSY, 409},
		{-ESTALE, 410}, {-EOPNOTSUPP, 422}, {-ETIMEDOUT, 504},
	};

	for (size_t i = 0; i < ELEMENTS(table); i++) {
		cr_assert_eq(err_http_status(table[i].code), table[i].status);
		cr_assert_eq(err_from_http_status(table[i].status), table[i].code);
	}
	cr_assert_eq(err_http_status(-EACCES), 403);
	cr_assert_eq(err_http_status(-EEXIST), 409);
	cr_assert_eq(err_http_status(-ENOSPC), 500);
	cr_assert_eq(err_from_http_status(500), -EIO);
	cr_assert_eq(err_from_http_status(0), -EIO);
	cr_assert_eq(err_from_http_status(-1), -EIO);
}
