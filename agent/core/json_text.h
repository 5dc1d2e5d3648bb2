/* The grammar of RFC 8259 with our limits, and UTF-8 (RFC 3629). For json.c. */
#pragma once

#include <stddef.h>
#include "core/err.h"

/* Is text[0..length) one JSON document that cJSON reads without loss? -EINVAL with the byte's place. */
int json_text_check(const char *text, size_t length, struct err **err);
/* Length of the UTF-8 sequence at s (1..4), or 0 if the bytes up to end are none. */
size_t utf8_sequence(const char *s, const char *end);
