/* Machines that no vdso_MACHINE.c is for: refused. A test compiles it on every machine. */
#if !defined(__x86_64__) || defined(VDSO_OTHER_MACHINE)

#include "kernel/vdso_arch.h"

#include <errno.h>
#include <sys/utsname.h>

int vdso_arch_patch(const struct vdso_image *image, const struct vdso_skew *skew, bool stub,
	struct vdso_patch *ret, struct err **err)
{
	struct utsname u;

	(void)image, (void)skew, (void)stub, (void)ret;
	uname(&u);
	return err_set(err, EOPNOTSUPP, "skewing clocks is there for x86_64 machines, this is %s",
		u.machine);
}

/* Nothing is ever patched, so no thread is in the way; whatever asks is told to wait. */
uint32_t vdso_arch_entry_size(void)
{
	return 0;
}

bool vdso_arch_returns_to(const struct vdso_process *p, const struct vdso_place *place, uint64_t from,
	uint64_t to)
{
	(void)p, (void)place, (void)from, (void)to;
	return true;
}

#endif
