/* Which file the token for the agents comes from. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "session_internal.h"

static struct kube_config in_cluster = {.source = (char *)"in-cluster", .token_path = (char *)"/api/token"};
static struct kube_config chosen = {.source = (char *)"file, context x", .token = (char *)"theirs"};

Test(token, the_option_then_the_environment_then_the_pods)
{
	static const char mounted[] = "/var/run/secrets/pgjolt.io/token";
	struct session_options named = {.token_file = (char *)"/a"}, plain = {0};

	setenv("PGJOLT_TOKEN_FILE", "/b", 1);
	cr_expect_str_eq(session_token_path(&named, &chosen), "/a");
	cr_expect_str_eq(session_token_path(&plain, &chosen), "/b");
	setenv("PGJOLT_TOKEN_FILE", "", 1);
	cr_expect_null(session_token_path(&plain, &chosen));
	unsetenv("PGJOLT_TOKEN_FILE");
	cr_expect_null(session_token_path(&plain, &chosen));
	if (access(mounted, R_OK) < 0) {
		cr_expect_null(session_token_path(&plain, &in_cluster));
		cr_expect_null(session_token_path(&plain, NULL));
	} else {
		cr_expect_str_eq(session_token_path(&plain, &in_cluster), mounted);
		cr_expect_str_eq(session_token_path(&plain, NULL), mounted);
	}
}

Test(token, a_file_that_is_named_must_be_there)
{
	struct session_options named = {.token_file = (char *)"/nonexistent/token"};
	_cleanup_err_ struct err *err = NULL;
	struct agent_address a = {0};
	struct session s = {0};

	cr_expect_lt(session_identify(&s, &named, &a, &err), 0);
	cr_expect(strstr(err_text(err), "/nonexistent/token"), "%s", err_text(err));
}
