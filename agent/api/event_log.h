/* The agent's events: a ring of the last EVENT_LOG_KEPT, each with a sequence number; followers
 * are told of each new one. */
#pragma once

#include <stddef.h>
#include "core/wire.h"

#define EVENT_LOG_KEPT 4096

struct event_log;

struct event_log *event_log_new(void);
void event_log_free(struct event_log *l);
DEFINE_CLEANUP(struct event_log, event_log_free)
/* Copies; stamps sequence, and at_ns where it is 0. */
void event_log_add(struct event_log *l, const struct agent_event *e);
/* First kept event after sequence; NULL: none yet. Borrowed until the next add. */
const struct agent_event *event_log_after(const struct event_log *l, uint64_t sequence);
/* Sequence of the newest event; 0: none was added yet. */
uint64_t event_log_last(const struct event_log *l);
/* wake(data) after every add; returns an id for event_log_unfollow. wake may follow and unfollow,
 * but not add. */
unsigned event_log_follow(struct event_log *l, void (*wake)(void *data), void *data);
void event_log_unfollow(struct event_log *l, unsigned id);
