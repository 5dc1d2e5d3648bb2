/* Which of an instance's volumes a disk fault is about; fault/volume_target.h reads it. */
#pragma once

#include "core/param.h"

extern const char *const volume_choices[];

#define VOLUME_PARAM                                                                            \
	{.name = "volume", .type = PARAM_ENUM, .fallback = "data", .choices = volume_choices,   \
		.help = "The file system of PGDATA, or that of the WAL (what pg_wal leads to): " \
			"often the same."}
