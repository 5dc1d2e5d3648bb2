/*
 * The state of one instance by SQL, straight to it, every poll interval: observations, and an event
 * in the record where reach, role, timeline or stream changed. Also ends those backends of ours on
 * it whose statements were given up (a commit that waits for a standby does not notice that its
 * client is gone, and many such would take all connections).
 */
#pragma once

#include "probe/probe_context.h"

struct state_watch;

int state_watch_new(struct probe_context *c, size_t instance, struct state_watch **ret,
	struct err **err);
void state_watch_free(struct state_watch *w);
