/* What a machine adds to vdso.c: a file vdso_MACHINE.c. */
#pragma once

#include "kernel/vdso.h"

/* Fills everything of *ret; ret->bytes holds a copy of the image when it is called. */
int vdso_arch_patch(const struct vdso_image *image, const struct vdso_skew *skew, bool stub,
	struct vdso_patch *ret, struct err **err);
