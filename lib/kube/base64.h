/* Base64 (RFC 4648, 4) as Secrets and kubeconfigs have it. */
#pragma once

#include <stddef.h>
#include "core/err.h"

/* Line breaks are passed over. *ret has a NUL behind it; caller frees. */
int base64_decode(const char *text, char **ret, size_t *ret_length, struct err **err);
/* Caller frees. */
char *base64_encode(const void *data, size_t length);
