/* Words for a kernel that says no. */
#pragma once

#include "core/err.h"

/* -EOPNOTSUPP: "WHAT: strerror(code)" and either the capabilities that this process lacks of those that
 * a network fault needs, or the kernel's version. */
int kernel_refusal(struct err **err, int code, const char *what);
