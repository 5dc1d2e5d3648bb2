/*
 * Space of a file system, held by an unnamed file: a thread takes it until only so much is left, and
 * takes again what others give back. The space is free again when the file is closed, by space_free()
 * or by the end of the process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/err.h"

struct space;

struct space_state {
	uint64_t taken_bytes;
	uint64_t free_bytes;	/* for those who are not root, as last seen */
	bool full;		/* once it had all that was wanted */
	bool written;		/* by writing: the file system has no fallocate(2) */
	int error;		/* errno that ended it, 0: none */
};

/* Takes file_fd (also on failure). The thread waits. */
int space_new(int file_fd, struct space **ret, struct err **err);
/* Starts taking, down to leave_bytes, and waits until it is full, failed, or wait_ns have passed. */
void space_take(struct space *s, uint64_t leave_bytes, uint64_t wait_ns);
void space_state(struct space *s, struct space_state *ret);
/* Ends the thread, which is at most one call of fallocate(2) or one write of 1 MiB away. */
void space_free(struct space *s);
static inline void space_freep(struct space **s)
{
	if (*s)
		space_free(*s);
}
