/* The probes' own schema in the database: pgjolt_probe with the table ledger. */
#pragma once

#include "probe/probe_context.h"

#define PROBE_SCHEMA "pgjolt_probe"
#define PROBE_TABLE  PROBE_SCHEMA ".ledger"

/* Makes what is missing, then waits (3 s) until the instances that can be reached show it. -EACCES
 * says which privilege is missing and what an administrator can do instead. */
int schema_prepare(struct probe_context *c, struct err **err);
/* Removes the run's rows, and the schema if we made it and no other run's rows are in it. */
int schema_remove(struct probe_context *c, struct sql *s, struct err **err);
