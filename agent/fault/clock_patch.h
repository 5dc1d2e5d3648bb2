/* Putting a skew (kernel/vdso.h) on processes that stand still, and taking it off again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "hold/ptrace_hold.h"
#include "kernel/vdso.h"

enum clock_patch_state {
	CLOCK_PATCH_NONE,	/* the kernel's own vDSO */
	CLOCK_PATCH_OURS,	/* by this token */
	CLOCK_PATCH_OTHER,	/* by another token: another experiment */
	CLOCK_PATCH_STRANGE,	/* changed by somebody else: a debugger's breakpoint */
	CLOCK_PATCH_UNFIT,	/* no vDSO, or one of another kind */
	CLOCK_PATCH_GONE,
};

/* Looks at one process. */
enum clock_patch_state clock_patch_look(pid_t pid, const struct vdso_image *own, uint64_t token);
/* For people: why a process in that state is not skewed; static text. */
const char *clock_patch_reason(enum clock_patch_state state);

/* Writes the patch into each of those held that has none, all of them or none: they stand, or wait in
 * the kernel. *ret_count: how many have it now. -EAGAIN: a thread is where a jump is to be, or still
 * runs: let them run on and try again. -EBUSY: another experiment's. */
int clock_patch_put(struct ptrace_hold *hold, const struct vdso_image *own, const struct vdso_patch *patch,
	uint64_t token, size_t *ret_count, struct err **err);

/*
 * Gives every process of the node that has this token's patch the kernel's own bytes back. The skew
 * ends first, at once, for all of them; then they are stopped for a moment twice. What another fault of
 * this agent holds by ptrace is written and stopped by that one's tracer. -EBUSY: one is traced by
 * somebody else, or never left the patch; its clock is right already, unless only its tracer may write.
 */
int clock_patch_remove(const struct vdso_image *own, uint64_t token, struct err **err);
/* A process of the node with this token's patch; 0: none. */
int clock_patch_find(const struct vdso_image *own, uint64_t token, pid_t *ret, struct err **err);
