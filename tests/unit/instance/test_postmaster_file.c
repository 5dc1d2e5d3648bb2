#include <criterion/criterion.h>
#include <errno.h>
#include "core/cleanup.h"
#include "instance/postmaster_file.h"

Test(postmaster_file, reads_a_real_one)
{
	struct postmaster_file f = {0};

	cr_assert_eq(postmaster_file_parse("4711\n/data\n1700000000\n5433\n/run/pg\n*\n  5432001 7\n"
					   "ready   \n", &f, NULL), 0);
	cr_expect_eq(f.pid, 4711);
	cr_expect_eq(f.port, 5433);
	cr_expect_str_eq(f.socket_dir, "/run/pg");
	cr_expect_str_eq(f.listen_address, "*");
	postmaster_file_done(&f);
	cr_expect_null(f.socket_dir);
}

Test(postmaster_file, a_start_of_one_will_do)
{
	struct postmaster_file f = {0};

	cr_assert_eq(postmaster_file_parse("12", &f, NULL), 0);
	cr_expect_eq(f.pid, 12);
	cr_expect_eq(f.port, 0);
	cr_expect_null(f.socket_dir);
	cr_assert_eq(postmaster_file_parse("12\n/data\n1\n99999\n\n\n", &f, NULL), 0);
	cr_expect_eq(f.port, 0);
	cr_expect_null(f.socket_dir);
	cr_expect_null(f.listen_address);
}

Test(postmaster_file, refuses_what_is_no_postmasters)
{
	static const char *const bad[] = {
		"", "\n", "-4711\n/data\n", "0\n", "12x\n", " 12\n", "+12\n", "99999999999\n",
		"999999999999999999999999999999999999\n", "postgres\n",
	};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		struct postmaster_file f = {.pid = 1};

		cr_expect_eq(postmaster_file_parse(bad[i], &f, NULL), -EINVAL, "%s", bad[i]);
		cr_expect_eq(f.pid, 1);
	}
}
