/* A thread that does one thing where the agent's own must not go, such as another namespace. */
#pragma once

#include "core/err.h"

/* Runs call(data, err) in a thread of its own, waits, and returns what it returned. */
int thread_run(int (*call)(void *data, struct err **err), void *data, struct err **err);
