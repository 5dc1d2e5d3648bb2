#if !defined(__x86_64__)

#include "hold/syscall_regs.h"

#include <errno.h>

bool syscall_regs_supported(void)
{
	return false;
}

int syscall_regs_set_result(pid_t tid, long call, long expected, long result)
{
	(void)tid;
	(void)call;
	(void)expected;
	(void)result;
	return -EOPNOTSUPP;
}

#endif
