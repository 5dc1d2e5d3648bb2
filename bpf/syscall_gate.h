/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What syscall_pick.bpf.c and hold/syscall_gate.c share. */
#pragma once

#include <linux/types.h>

#define SYSCALL_GATE_CALLS    512	/* system call numbers below this */
#define SYSCALL_GATE_AREAS    32
#define SYSCALL_GATE_PENDING  4096
#define SYSCALL_GATE_PPM      1000000
#define SYSCALL_GATE_NO_CLASS 0xff

/* A directory tree, as struct inode and struct super_block have it. */
struct syscall_gate_area {
	__u64 inode;
	__u32 device;
	__u32 class;
};

/* Value of the map `pending`; key: the thread's id as the agent sees it. */
struct syscall_gate_event {
	__u64 at_ns;		/* CLOCK_MONOTONIC, on the way out of the call */
	__s64 result;
	__u32 call;
	__s32 fd;
	__u8 operation;
	__u8 class;		/* SYSCALL_GATE_NO_CLASS: the tracer is to look */
	__u8 pad[6];
};

/* Of one CPU. */
struct syscall_gate_count {
	__u64 seen;		/* calls of the instance of one of the operations, on a file of it */
	__u64 sent;		/* of these, brought before the tracer */
	__u64 missed;		/* that could not be: no room, no signal */
};
