/* A fault that strikes once, or again and again while it is active ("every"). */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>
#include "core/err.h"
#include "fault/fault.h"

struct rounds {
	uint64_t every_ns;	/* 0: one round */
	/* One round; -ESTALE or -ENOENT while there is nothing to strike. */
	int (*strike)(void *data, struct err **err);
	void *data;
	uint64_t count;		/* of rounds begun */
	struct err *last;	/* why the newest round failed; NULL: it did not */
	sd_event_source *timer;
};

/* The first round, and the timer of those to come. A target that is gone is no error: no hits, which
 * the run tells. */
int rounds_begin(struct rounds *r, const struct node *node, struct err **err);
void rounds_done(struct rounds *r);
