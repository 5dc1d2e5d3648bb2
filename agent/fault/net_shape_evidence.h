/* What a shape did, as JSON: counts, the delay really given, peers. */
#pragma once

#include "core/err.h"
#include "fault/fault.h"
#include "fault/net_rules.h"
#include "fault/net_shape_detour.h"
#include "hold/delay_line.h"

int net_shape_evidence(const struct detour *d, const struct net_rules *rules,
	const struct delay_shape *shape, struct evidence *ret, struct err **err);
