#include "verdict/expectation.h"

#include <stdlib.h>
#include <string.h>

#include "core/units.h"
#include "verdict/verdict.h"

enum value_kind { VALUE_DURATION, VALUE_COUNT, VALUE_GRADE, VALUE_BOOL };

static const struct {
	const char *key;
	enum value_kind kind;
} figures[EXPECT_FIGURE_MAX] = {
	[EXPECT_TTD] = {"ttd", VALUE_DURATION},
	[EXPECT_WRITE_TTR] = {"writeTtr", VALUE_DURATION},
	[EXPECT_READ_TTR] = {"readTtr", VALUE_DURATION},
	[EXPECT_FULL_REDUNDANCY] = {"fullRedundancy", VALUE_DURATION},
	[EXPECT_WRITE_DOWNTIME] = {"writeDowntime", VALUE_DURATION},
	[EXPECT_READ_DOWNTIME] = {"readDowntime", VALUE_DURATION},
	[EXPECT_LOST_COMMITS] = {"lostCommits", VALUE_COUNT},
	[EXPECT_SPLIT_BRAIN] = {"splitBrain", VALUE_GRADE},
	[EXPECT_PROMOTED] = {"promoted", VALUE_BOOL},
};

/* Old name of a key, still taken. */
#define DOWNTIME_ALIAS "downtime"

#define COUNT_MAX ((1ULL << 53) - 1)

void expectation_done(struct expectation *e)
{
	free(e->text);
	*e = (struct expectation){0};
}

const char *expectation_key(enum expectation_figure f)
{
	return (unsigned)f < EXPECT_FIGURE_MAX ? figures[f].key : NULL;
}

static int find_figure(const char *key, enum expectation_figure *ret, struct err **err)
{
	for (size_t i = 0; i < EXPECT_FIGURE_MAX; i++)
		if (strcmp(key, figures[i].key) == 0) {
			*ret = (enum expectation_figure)i;
			return 0;
		}
	if (strcmp(key, DOWNTIME_ALIAS) == 0) {
		*ret = EXPECT_WRITE_DOWNTIME;
		return 0;
	}
	return err_set(err, -EINVAL, "\"%s\" cannot be expected: ttd, writeTtr, readTtr, "
		"fullRedundancy, writeDowntime (or downtime), readDowntime, lostCommits, splitBrain "
		"or promoted", key);
}

static int parse_grade(const char *value, uint64_t *ret, struct err **err)
{
	enum split_brain_grade grade;

	if (split_brain_grade_from_string(value, &grade) < 0)
		return err_set(err, -EINVAL, "\"%s\" is no grade of split brain: none, claimed, "
			"writable or acknowledged", value);
	*ret = grade;
	return 0;
}

static int parse_bool(const char *value, uint64_t *ret, struct err **err)
{
	if (strcmp(value, "true") && strcmp(value, "false"))
		return err_set(err, -EINVAL, "\"%s\": true or false", value);
	*ret = strcmp(value, "true") == 0;
	return 0;
}

static int parse_value(enum value_kind kind, const char *value, uint64_t *ret, struct err **err)
{
	switch (kind) {
	case VALUE_DURATION:
		return duration_parse(value, ret, err);
	case VALUE_COUNT:
		return count_parse(value, 0, COUNT_MAX, ret, err);
	case VALUE_GRADE:
		return parse_grade(value, ret, err);
	default:
		return parse_bool(value, ret, err);
	}
}

int expectation_parse(const char *key, const char *op, const char *value, struct expectation *ret,
	struct err **err)
{
	struct expectation e = {0};
	uint64_t n;
	int r = find_figure(key, &e.figure, err);

	if (r < 0)
		return r;
	if (strcmp(op, "max") && strcmp(op, "min"))
		return err_set(err, -EINVAL, "%s: \"%s\" is no bound: max or min", key, op);
	r = parse_value(figures[e.figure].kind, value, &n, err);
	if (r < 0)
		return err_wrap(err, r, "%s", key);
	e.has_max = strcmp(op, "max") == 0;
	e.has_min = !e.has_max;
	/* Yes or no has no more and no less: either bound means just this. */
	if (figures[e.figure].kind == VALUE_BOOL)
		e.has_max = e.has_min = true;
	e.max = e.has_max ? n : 0;
	e.min = e.has_min ? n : 0;
	e.text = strdup(value);
	if (!e.text)
		abort();
	*ret = e;
	return 0;
}
