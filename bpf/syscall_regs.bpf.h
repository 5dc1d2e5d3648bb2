/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A system call's number and first argument on its way out: a branch for each machine. */
#pragma once

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di;
	unsigned long orig_ax;
} __attribute__((preserve_access_index));
#define REGS_CALL(regs)	 BPF_CORE_READ(regs, orig_ax)
#define REGS_FIRST(regs) BPF_CORE_READ(regs, di)
#else
#error "the syscall gate knows the registers of x86-64 only"
#endif
