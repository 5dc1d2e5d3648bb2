/* The ConfigMap that makes every agent revert and refuse (docs/security.md). */
#pragma once

#include <stdbool.h>
#include "kube/kube.h"
#include "kube/stop_switch.h"

/* Locked: agents revert what they hold and take nothing, until it is unlocked. reason may be NULL when
 * unlocking. *ret_was (may be NULL): how it was. */
int kill_switch_set(struct kube *k, const char *namespace, bool locked, const char *reason,
	bool *ret_was, struct err **err);
