/*
 * The kill switch: a ConfigMap. While its data has "stop" with anything but an empty word, "false", "no", "off"
 * or "0", every agent reverts all and refuses to arm and to fire; "reason" goes into the words. Agents and
 * coordinator read it by the same function.
 */
#pragma once

#include <stdbool.h>
#include "core/json.h"

#define STOP_SWITCH_NAME "pgjolt-stop"	/* in the agents' namespace, unless an agent was told of another */

/* The path of its watch; caller frees. */
char *stop_switch_path(const char *namespace, const char *name);
/* config_map NULL: there is none, which is off. */
bool stop_switch_is_on(const cJSON *config_map);
/* "the kill switch (ConfigMap pgjolt/pgjolt-stop) is on: REASON"; caller frees. */
char *stop_switch_words(const cJSON *config_map);
/* Is that what a node says why it takes no faults? reason may be NULL. */
bool stop_switch_is_reason(const char *reason, const char *namespace, const char *name);
