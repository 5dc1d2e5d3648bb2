#include "hold/space.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "kernel/volume.h"

#define STEP_BYTES  (1UL << 30)		/* of one fallocate(2) */
#define WRITE_BYTES (1UL << 20)
#define SYNC_BYTES  (64UL << 20)
#define LOOK_NS	    (50 * NS_PER_MS)

struct space {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake, news;
	bool started, stop;		/* under the mutex, as is state */
	uint64_t leave_bytes;
	struct space_state state;
	int fd;
	uint64_t size, unsynced;	/* the thread's own */
	bool writes;
	char *buffer;
};

/* What a file system with compression cannot make smaller. */
static int fill_buffer(struct space *s)
{
	uint64_t x = now_ns() | 1;

	s->buffer = malloc(WRITE_BYTES);
	if (!s->buffer)
		return -ENOMEM;
	for (size_t i = 0; i < WRITE_BYTES; i += sizeof(x)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		__builtin_memcpy(s->buffer + i, &x, sizeof(x));
	}
	return 0;
}

static int64_t take_by_writing(struct space *s, uint64_t bytes)
{
	ssize_t n;

	if (!s->buffer && fill_buffer(s) < 0)
		return -ENOMEM;
	n = pwrite(s->fd, s->buffer, bytes < WRITE_BYTES ? bytes : WRITE_BYTES, (off_t)s->size);
	if (n < 0)
		return -errno;
	s->unsynced += (uint64_t)n;
	/* Else it would only be in memory, and the space not yet gone. */
	if (s->unsynced >= SYNC_BYTES) {
		s->unsynced = 0;
		if (fdatasync(s->fd) < 0)
			return -errno;
	}
	return n;
}

/* Bytes that were taken, or a negative errno. */
static int64_t take_once(struct space *s, uint64_t bytes)
{
	if (!s->writes) {
		if (fallocate(s->fd, 0, (off_t)s->size, (off_t)bytes) == 0)
			return (int64_t)bytes;
		if (errno != EOPNOTSUPP && errno != ENOSYS)
			return -errno;
		s->writes = true;
	}
	return take_by_writing(s, bytes);
}

/* Up to `bytes`: less and less at a time where it gets narrow. 0 or a negative errno. */
static int take(struct space *s, uint64_t bytes, uint64_t block)
{
	uint64_t step = bytes < STEP_BYTES ? bytes : STEP_BYTES;

	step -= step % block;
	while (step >= block) {
		int64_t n = take_once(s, step);

		if (n > 0) {
			s->size += (uint64_t)n;
			return 0;
		}
		if (n != -ENOSPC && n != -EDQUOT && n != -EINTR)
			return n == 0 ? -EIO : (int)n;
		if (n != -EINTR)
			step = step / 2 - step / 2 % block;
	}
	return -ENOSPC;
}

static void publish(struct space *s, uint64_t free_bytes, bool full, int error)
{
	pthread_mutex_lock(&s->mutex);
	s->state.taken_bytes = s->size;
	s->state.free_bytes = free_bytes;
	s->state.written = s->writes;
	s->state.full = s->state.full || full;
	s->state.error = error;
	pthread_cond_signal(&s->news);
	pthread_mutex_unlock(&s->mutex);
}

static struct timespec in_ns(uint64_t ns)
{
	uint64_t at = now_ns() + ns;

	return (struct timespec){.tv_sec = (time_t)(at / NS_PER_S), .tv_nsec = (long)(at % NS_PER_S)};
}

/* Waits until told to go on or to stop, at most for a while where there is one. True: stop. */
static bool wait_for_news(struct space *s, uint64_t ns)
{
	struct timespec until = in_ns(ns);
	bool stop;

	pthread_mutex_lock(&s->mutex);
	while (!s->started && !s->stop)
		pthread_cond_wait(&s->wake, &s->mutex);
	if (ns > 0 && !s->stop)
		pthread_cond_timedwait(&s->wake, &s->mutex, &until);
	stop = s->stop;
	pthread_mutex_unlock(&s->mutex);
	return stop;
}

static void *run(void *data)
{
	struct space *s = data;
	uint64_t pause = 0;

	while (!wait_for_news(s, pause)) {
		struct volume_space space;
		int r = volume_space(s->fd, &space, NULL);

		pause = 0;
		if (r >= 0 && space.free_bytes > s->leave_bytes + space.block_bytes)
			r = take(s, space.free_bytes - s->leave_bytes, space.block_bytes);
		else
			pause = LOOK_NS;
		/* What statvfs(3) calls free and nobody gets: reserves, the file system's own needs. */
		if (r == -ENOSPC || r == -EDQUOT)
			pause = LOOK_NS;
		if (volume_space(s->fd, &space, NULL) < 0)
			space.free_bytes = 0;
		publish(s, space.free_bytes, pause != 0, pause != 0 && r == -ENOSPC ? 0 : -r);
		if (r < 0 && pause == 0)
			break;
	}
	return NULL;
}

static int start_thread(struct space *s)
{
	pthread_condattr_t attributes;
	sigset_t all, saved;
	int r;

	pthread_mutex_init(&s->mutex, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attributes);
	pthread_cond_init(&s->news, &attributes);
	pthread_condattr_destroy(&attributes);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	r = pthread_create(&s->thread, NULL, run, s);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	return -r;
}

static void destroy(struct space *s)
{
	pthread_cond_destroy(&s->wake);
	pthread_cond_destroy(&s->news);
	pthread_mutex_destroy(&s->mutex);
	closep(&s->fd);
	free(s->buffer);
	free(s);
}

int space_new(int file_fd, struct space **ret, struct err **err)
{
	struct space *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		closep(&file_fd);
		return err_errno(err, ENOMEM, "hold space");
	}
	s->fd = file_fd;
	r = start_thread(s);
	if (r < 0) {
		destroy(s);
		return err_errno(err, r, "start the thread that takes space");
	}
	*ret = s;
	return 0;
}

void space_take(struct space *s, uint64_t leave_bytes, uint64_t wait_ns)
{
	struct timespec until = in_ns(wait_ns);
	int r = 0;

	pthread_mutex_lock(&s->mutex);
	s->leave_bytes = leave_bytes;
	s->started = true;
	pthread_cond_signal(&s->wake);
	while (!s->state.full && !s->state.error && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&s->news, &s->mutex, &until);
	pthread_mutex_unlock(&s->mutex);
}

void space_state(struct space *s, struct space_state *ret)
{
	pthread_mutex_lock(&s->mutex);
	*ret = s->state;
	pthread_mutex_unlock(&s->mutex);
}

void space_free(struct space *s)
{
	pthread_mutex_lock(&s->mutex);
	s->stop = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->mutex);
	pthread_join(s->thread, NULL);
	destroy(s);
}
