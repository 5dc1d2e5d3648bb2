#include <criterion/criterion.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/nearest.h"

static const char *const words[] = {"delay", "jitter", "loss", "loss-model", "rate", "ge-p"};

static const char *near(const char *given)
{
	const char *w = nearest_word(given, words, ELEMENTS(words));

	return w ? w : "(none)";
}

Test(nearest, finds_what_was_meant)
{
	cr_assert_str_eq(near("delay"), "delay");
	cr_assert_str_eq(near("dealy"), "delay");
	cr_assert_str_eq(near("dela"), "delay");
	cr_assert_str_eq(near("jiter"), "jitter");
	cr_assert_str_eq(near("lossmodel"), "loss-model");
	cr_assert_str_eq(near("loss_model"), "loss-model");
	cr_assert_str_eq(near("rat"), "rate");
}

Test(nearest, says_nothing_for_what_is_far)
{
	char longest[4096];

	cr_assert_str_eq(near("bandwidth"), "(none)");
	cr_assert_str_eq(near(""), "(none)");
	cr_assert_null(nearest_word(NULL, words, ELEMENTS(words)));
	cr_assert_null(nearest_word("delay", NULL, 0));
	memset(longest, 'd', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	cr_assert_str_eq(near(longest), "(none)");
	longest[48] = '\0';
	cr_assert_str_eq(near(longest), "(none)");
}
