/* How the wire's files write their tables: a key is the member's own name. */
#pragma once

#include <stddef.h>
#include "core/json.h"

#define FIELD(type_, s, member, ...) \
	{.name = #member, .type = type_, .offset = offsetof(struct s, member), __VA_ARGS__}
#define MANDATORY .mandatory = true
