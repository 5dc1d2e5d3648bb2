/* The registers of a thread that stands on its way out of a system call: one file a machine. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Does this machine's file exist? */
bool syscall_regs_supported(void);

/* Changes the result from `expected` to `result`, if the thread still stands behind that call with
 * that result, else -ESTALE. The thread must be in a ptrace stop of the caller's. */
int syscall_regs_set_result(pid_t tid, long call, long expected, long result);
