/* What a drill expects: a figure, a comparison, a bound. "ttd: 30s" means at most 30 s;
 * "writeTtr: {max: 60s}", "lostCommits: 0", "splitBrain: none", "promoted: true". */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/err.h"

enum expectation_figure {
	EXPECT_TTD, EXPECT_WRITE_TTR, EXPECT_READ_TTR, EXPECT_FULL_REDUNDANCY, EXPECT_WRITE_DOWNTIME,
	EXPECT_READ_DOWNTIME, EXPECT_LOST_COMMITS, EXPECT_SPLIT_BRAIN, EXPECT_PROMOTED,
	EXPECT_FIGURE_MAX
};

struct expectation {
	enum expectation_figure figure;
	bool has_max, has_min;
	uint64_t max, min;	/* ns, a count, a split-brain grade, or a bool */
	char *text;		/* as the drill wrote it */
};

void expectation_done(struct expectation *e);
/* key as in a drill ("writeTtr"), value as text; op "max" or "min". -EINVAL lists what is allowed. */
int expectation_parse(const char *key, const char *op, const char *value, struct expectation *ret,
	struct err **err);
const char *expectation_key(enum expectation_figure f);
