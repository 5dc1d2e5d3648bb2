/*
 * The file gate: reads, writes and opens of files held until due, or refused, by fanotify pre-content
 * events (fanotify(7), Linux 6.14, include/uapi/linux/fanotify.h FAN_PRE_ACCESS) and FAN_OPEN_PERM. A
 * mark on a mount shows the accesses through that mount alone. held: closing the descriptor lets everything go.
 *
 * The kernel chooses at open() whether a file is shown: one that was opened before the mark was set
 * never is, for reads and writes (fs/notify/fsnotify.c file_set_fsnotify_mode_from_watchers()). The syscall gate takes those.
 *
 * Its thread opens nothing on a mount that it gates. No file of the agent may lie on one.
 */
#pragma once

#include "core/err.h"
#include "hold/gate.h"

struct file_gate;

/* Does this kernel know pre-content events? 0, or -EOPNOTSUPP with what is missing. */
int file_gate_supported(struct err **err);

/*
 * Mounts by a directory on each (open descriptors, borrowed until file_gate_fire()). Tries each
 * mark and takes it back: -EOPNOTSUPP where the file system has no pre-content events. Starts the
 * thread; nothing is marked. effect->code must be one that file_gate_can_fail_with().
 * filter: its operations may be read, write, open; telling read from write costs an event some us.
 */
int file_gate_new(const struct gate_effect *effect, const struct gate_filter *filter,
	const int *dir_fds, size_t n_dirs, struct file_gate **ret, struct err **err);

bool file_gate_can_fail_with(int code);

/* Marks the mounts. Inert from until_boot_ns on. */
int file_gate_fire(struct file_gate *g, uint64_t until_boot_ns, struct err **err);

void file_gate_counts(const struct file_gate *g, struct gate_counts *ret);

/* Lets everything go, ends the thread. Takes NULL. */
void file_gate_free(struct file_gate *g);
DEFINE_CLEANUP(struct file_gate, file_gate_free)
