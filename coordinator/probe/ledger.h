/*
 * The ledger of writes, on disk: what was tried before it is sent, what became of it once known.
 * Lines of text, fields parted by one space (docs/measuring.md):
 *   pgjolt-ledger 1 RUN REALTIME_NS MONOTONIC_NS
 *   C CLIENT NAME
 *   A CLIENT SEQUENCE SENT_NS
 *   O CLIENT SEQUENCE DONE_NS ok|fail|unknown INSTANCE|- TIMELINE SQLSTATE|-
 *   E ATTEMPTS OUTCOMES
 * Each line is in the kernel's hands before the call returns, so it outlives this process; a thread
 * syncs without a pause (group commit), so an outcome is on the disk one sync later at the latest. A
 * ledger without its E line was cut short.
 */
#pragma once

#include <systemd/sd-event.h>
#include "core/err.h"
#include "run/run_record.h"

struct ledger;

#define LEDGER_FILE "ledger"

/* Called once, from the loop, when the file can take no more (disk full, I/O error). */
typedef void (*ledger_failed)(const struct err *err, void *data);

/* FOLDER/ledger, which must not exist yet. record is borrowed: names of run, clients, instances. */
int ledger_open(sd_event *event, const char *folder, const struct run_record *record,
	ledger_failed failed, void *data, struct ledger **ret, struct err **err);
/* Both return a negative errno once the ledger has failed; failed() follows from the loop. */
int ledger_attempt(struct ledger *l, uint32_t client, uint64_t sequence, uint64_t sent_ns);
int ledger_outcome(struct ledger *l, const struct attempt *a);
/* Writes the E line and syncs all. The first error that ever was, if any. */
int ledger_close(struct ledger *l, struct err **err);
/* Without ledger_close(): cut short. */
void ledger_free(struct ledger *l);
DEFINE_CLEANUP(struct ledger, ledger_free)
/* The longest that a line had to wait for the kernel: the loop stood still for so long. */
uint64_t ledger_longest_write_ns(const struct ledger *l);
