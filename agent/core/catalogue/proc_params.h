/* The parameters that name processes of an instance; fault/proc_named.h reads them. */
#pragma once

#include "core/param.h"

/* named: is the choice on with which they go? choice: its words ("process title"). -EINVAL. */
int proc_params_check(const struct params *p, bool named, const char *choice, struct err **err);

#define PROC_NAMED_PARAMS(choice)                                                               \
	{.name = "titles", .type = PARAM_TEXTS,                                                 \
		.help = "With " choice ": what PostgreSQL calls its processes: walsender, "     \
			"walreceiver, checkpointer, walwriter, bgwriter, autovacuum (or one "   \
			"kind: autovacuum launcher), startup, archiver, logical replication "   \
			"(or logical replication apply worker); backend for every client's "    \
			"session, postmaster. Other text matches a title from its "    \
			"start in whole words (alice app), or as a glob (* idle in "            \
			"transaction)."},                                                       \
	{.name = "application", .type = PARAM_TEXTS,                                            \
		.help = "With " choice ": only sessions whose application_name is one of "      \
			"these, or matches one as a glob, now. Without titles, backends and "   \
			"walsenders."},                                                         \
	{.name = "client", .type = PARAM_PEERS,                                                 \
		.help = "With " choice ": only sessions whose client is one of these, by the "  \
			"TCP connection that the process has open at the instance's port: an "  \
			"address, a CIDR, replicas, an instance, ... as net-partition takes "   \
			"them. Without titles, backends and walsenders."}
