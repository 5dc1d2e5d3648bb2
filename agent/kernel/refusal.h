/* Words for a kernel that says no, and which no is for good. */
#pragma once

#include "core/err.h"

/* -EOPNOTSUPP: "WHAT: strerror(code)" and either the capabilities that this process lacks of those that
 * a network fault needs, or the kernel's version. Only this may be remembered as what a kernel cannot do: what
 * passes (no descriptor or memory left, a limit, a signal) keeps its own code. */
int kernel_refusal(struct err **err, int code, const char *what);
