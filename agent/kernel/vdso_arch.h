/* What a machine adds to vdso.c: a file vdso_MACHINE.c, and its name in the condition of vdso_other.c. */
#pragma once

#include "kernel/vdso.h"

/* Fills everything of *ret; ret->bytes holds a copy of the image when it is called. */
int vdso_arch_patch(const struct vdso_image *image, const struct vdso_skew *skew, bool stub,
	struct vdso_patch *ret, struct err **err);

/* Of a function's beginning, at most so many bytes are written over. */
uint32_t vdso_arch_entry_size(void);
/* place: in the functions' own code. Would the thread return to an address of [from, to)? True also where that
 * cannot be told. */
bool vdso_arch_returns_to(const struct vdso_process *p, const struct vdso_place *place, uint64_t from,
	uint64_t to);
