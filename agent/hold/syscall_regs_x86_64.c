#if defined(__x86_64__)

#include "hold/syscall_regs.h"

#include <errno.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

bool syscall_regs_supported(void)
{
	return true;
}

int syscall_regs_set_result(pid_t tid, long call, long expected, long result)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, tid, NULL, &regs) < 0)
		return -errno;
	if ((long)regs.orig_rax != call || (long)regs.rax != expected)
		return -ESTALE;
	regs.rax = (unsigned long)result;
	return ptrace(PTRACE_SETREGS, tid, NULL, &regs) < 0 ? -errno : 0;
}

#endif
