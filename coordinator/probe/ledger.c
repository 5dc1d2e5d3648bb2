#include "probe/ledger.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "core/clock.h"

struct ledger {
	const struct run_record *record;
	char *path;
	int fd, eventfd;
	sd_event_source *source;
	ledger_failed failed;
	void *data;
	uint64_t attempts, outcomes;
	uint64_t longest_write_ns;
	int error;		/* of the loop's side, negative errno; the first one stays */
	bool told;

	/* Shared with the thread that syncs. */
	pthread_t thread;
	bool thread_runs;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool dirty, stop;
	int sync_error;
};

static void *sync_thread(void *data)
{
	struct ledger *l = data;

	pthread_mutex_lock(&l->lock);
	for (;;) {
		int r;

		while (!l->dirty && !l->stop)
			pthread_cond_wait(&l->wake, &l->lock);
		if (!l->dirty)
			break;
		l->dirty = false;
		pthread_mutex_unlock(&l->lock);
		r = fdatasync(l->fd) < 0 ? -errno : 0;
		pthread_mutex_lock(&l->lock);
		/* After a failed sync the pages count as clean: no later success can be believed. */
		if (r < 0 && l->sync_error == 0) {
			l->sync_error = r;
			eventfd_write(l->eventfd, 1);
		}
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static int ledger_error(struct ledger *l)
{
	int sync_error;

	pthread_mutex_lock(&l->lock);
	sync_error = l->sync_error;
	pthread_mutex_unlock(&l->lock);
	return l->error < 0 ? l->error : sync_error;
}

static int on_failure(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct ledger *l = data;
	_cleanup_err_ struct err *e = NULL;
	eventfd_t count;

	(void)source;
	(void)events;
	if (eventfd_read(fd, &count) < 0 || l->told)
		return 0;
	l->told = true;
	err_errno(&e, ledger_error(l), "write the ledger %s", l->path);
	l->failed(e, l->data);
	return 0;
}

static int ledger_write(struct ledger *l, const char *line, size_t length)
{
	uint64_t start, took;

	if (l->error < 0)
		return l->error;
	start = now_ns();
	while (length > 0) {
		ssize_t n = write(l->fd, line, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			l->error = n < 0 ? -errno : -EIO;
			eventfd_write(l->eventfd, 1);
			return l->error;
		}
		line += n;
		length -= (size_t)n;
	}
	took = now_ns() - start;
	if (took > l->longest_write_ns)
		l->longest_write_ns = took;
	pthread_mutex_lock(&l->lock);
	l->dirty = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	return 0;
}

static int write_header(struct ledger *l, struct err **err)
{
	const struct run_record *r = l->record;
	_cleanup_free_ char *line = NULL;
	int n, e;

	n = asprintf(&line, "pgjolt-ledger 1 %s %lu %lu\n", r->run, realtime_ns(), now_ns());
	e = n < 0 ? -ENOMEM : ledger_write(l, line, (size_t)n);
	for (size_t i = 0; i < r->n_clients && e == 0; i++) {
		free(line);
		n = asprintf(&line, "C %zu %s\n", i, r->clients[i].name);
		e = n < 0 ? -ENOMEM : ledger_write(l, line, (size_t)n);
	}
	return e < 0 ? err_errno(err, e, "write the ledger %s", l->path) : 0;
}

static int start(struct ledger *l, sd_event *event, const char *folder, struct err **err)
{
	int r;

	if (asprintf(&l->path, "%s/" LEDGER_FILE, folder) < 0) {
		l->path = NULL;
		return err_errno(err, -ENOMEM, "ledger");
	}
	l->fd = open(l->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
	if (l->fd < 0)
		return err_errno(err, -errno, "create the ledger %s", l->path);
	l->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->eventfd < 0)
		return err_errno(err, -errno, "ledger: eventfd");
	r = sd_event_add_io(event, &l->source, l->eventfd, EPOLLIN, on_failure, l);
	if (r < 0)
		return err_errno(err, r, "ledger: event source");
	r = pthread_create(&l->thread, NULL, sync_thread, l);
	if (r != 0)
		return err_errno(err, -r, "ledger: thread");
	l->thread_runs = true;
	return write_header(l, err);
}

int ledger_open(sd_event *event, const char *folder, const struct run_record *record,
	ledger_failed failed, void *data, struct ledger **ret, struct err **err)
{
	_cleanup_(ledger_freep) struct ledger *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return err_errno(err, -ENOMEM, "ledger");
	l->fd = l->eventfd = -1;
	l->record = record;
	l->failed = failed;
	l->data = data;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->wake, NULL);
	r = start(l, event, folder, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(l);
	return 0;
}

int ledger_attempt(struct ledger *l, uint32_t client, uint64_t sequence, uint64_t sent_ns)
{
	char line[80];
	int n = snprintf(line, sizeof(line), "A %u %lu %lu\n", client, sequence, sent_ns);
	int r = ledger_write(l, line, (size_t)n);

	if (r == 0)
		l->attempts++;
	return r < 0 ? r : ledger_error(l);
}

int ledger_outcome(struct ledger *l, const struct attempt *a)
{
	const char *instance = a->instance >= 0 ? l->record->instances[a->instance].name : "-";
	char line[400];
	int n, r;

	n = snprintf(line, sizeof(line), "O %u %lu %lu %s %.250s %u %s\n", a->client, a->sequence,
		a->done_ns, outcome_to_string(a->outcome), instance, a->timeline,
		*a->sqlstate ? a->sqlstate : "-");
	r = ledger_write(l, line, (size_t)n);
	if (r == 0)
		l->outcomes++;
	return r < 0 ? r : ledger_error(l);
}

static void stop_thread(struct ledger *l)
{
	if (!l->thread_runs)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	l->thread_runs = false;
}

int ledger_close(struct ledger *l, struct err **err)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "E %lu %lu\n", l->attempts, l->outcomes);
	int r;

	ledger_write(l, line, (size_t)n);
	/* The thread syncs what is left before it ends. */
	stop_thread(l);
	r = ledger_error(l);
	return r < 0 ? err_errno(err, r, "write the ledger %s", l->path) : 0;
}

void ledger_free(struct ledger *l)
{
	if (!l)
		return;
	stop_thread(l);
	sd_event_source_disable_unref(l->source);
	if (l->fd >= 0)
		close(l->fd);
	if (l->eventfd >= 0)
		close(l->eventfd);
	pthread_cond_destroy(&l->wake);
	pthread_mutex_destroy(&l->lock);
	free(l->path);
	free(l);
}

uint64_t ledger_longest_write_ns(const struct ledger *l)
{
	return l->longest_write_ns;
}
