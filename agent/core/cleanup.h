/* Scope cleanup: a resource is freed where its variable ends; ownership moves by name. */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

static inline void freep(void *p)
{
	free(*(void **)p);
}

/* Closes and keeps errno. Accepts -1. */
static inline void closep(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)
#define _cleanup_fclose_ _cleanup_(fclosep)

static inline int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Gives the pointer away and leaves NULL behind. */
#define steal_ptr(p)                      \
	({                                \
		__typeof__(p) *_p = &(p); \
		__typeof__(p) _t = *_p;   \
		*_p = NULL;               \
		_t;                       \
	})

/* DEFINE_CLEANUP(struct err, err_free) gives err_freep() for _cleanup_(err_freep). */
#define DEFINE_CLEANUP(type, free_func)               \
	static inline void free_func##p(type **p)     \
	{                                             \
		if (*p)                               \
			free_func(*p);                \
	}

#define ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))
