/* disk-error: an instance's reads, writes and flushes fail (fault/disk_fault.h). */
#include "fault/disk_fault.h"

/* In the order of the catalogue's choices. */
static const int codes[] = {EIO, ENOSPC, EDQUOT, EAGAIN, EBUSY, EROFS};

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	const struct gate_effect effect = {
		.code = codes[params_number(f->params, "errno")],
		.after = params_number(f->params, "after"),
	};

	return disk_fault_arm(f, &effect, ret, err);
}

const struct fault_driver driver_disk_error = {
	.spec = &fault_disk_error,
	DISK_FAULT_OPERATIONS,
};
