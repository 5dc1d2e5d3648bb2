/* What a thread that waits in the kernel is about to do: read or write (proc_pid_syscall(5)). */
#pragma once

#include <sys/types.h>
#include "core/catalogue/disk_params.h"

#define THREAD_CALLS_KNOWN 64

/* Opening the file takes longer than reading it: some stay open. */
struct thread_calls {
	struct thread_call {
		pid_t tid;
		int fd;
	} list[THREAD_CALLS_KNOWN];
};

void thread_calls_init(struct thread_calls *t);
void thread_calls_done(struct thread_calls *t);
/* DISK_READ or DISK_WRITE; DISK_OPERATION_MAX if it is in neither, or gone. */
enum disk_operation thread_calls_get(struct thread_calls *t, pid_t tid);
