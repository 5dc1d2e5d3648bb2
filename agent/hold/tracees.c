#include "hold/tracees.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Index of tid, or where it belongs. */
static size_t place(const struct tracees *t, pid_t tid)
{
	size_t low = 0, high = t->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (t->list[middle].tid < tid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct tracee *tracees_find(struct tracees *t, pid_t tid)
{
	size_t i = place(t, tid);

	return i < t->count && t->list[i].tid == tid ? &t->list[i] : NULL;
}

struct tracee *tracees_add(struct tracees *t, pid_t tid, const struct proc_id *process)
{
	size_t i = place(t, tid);

	if (t->count == t->room) {
		size_t room = t->room ? t->room * 2 : 64;
		struct tracee *more = reallocarray(t->list, room, sizeof(*more));

		if (!more)
			return NULL;
		t->list = more;
		t->room = room;
	}
	memmove(&t->list[i + 1], &t->list[i], (t->count - i) * sizeof(*t->list));
	t->list[i] = (struct tracee){.tid = tid, .process = *process};
	t->count++;
	return &t->list[i];
}

void tracees_remove(struct tracees *t, pid_t tid)
{
	size_t i = place(t, tid);

	if (i >= t->count || t->list[i].tid != tid)
		return;
	t->count--;
	memmove(&t->list[i], &t->list[i + 1], (t->count - i) * sizeof(*t->list));
}

bool tracees_have_process(const struct tracees *t, pid_t pid)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].process.pid == pid)
			return true;
	return false;
}

void tracees_sweep(struct tracees *t)
{
	for (size_t i = 0; i < t->count; i++) {
		struct proc_stat s;

		if (t->list[i].state == TRACEE_RUNNING &&
		    proc_read_stat(t->list[i].tid, &s, NULL) == 0 && s.state == 'Z')
			t->list[i].state = TRACEE_STOPPED;
	}
}

bool tracees_all_stopped(const struct tracees *t)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].state != TRACEE_STOPPED)
			return false;
	return true;
}

static int by_pid(const void *a, const void *b)
{
	const struct ptrace_held *x = a, *y = b;

	return (x->id.pid > y->id.pid) - (x->id.pid < y->id.pid);
}

/* One of each thread, then one of each process. */
static size_t fold(struct ptrace_held *list, size_t n)
{
	size_t count = 0;

	qsort(list, n, sizeof(*list), by_pid);
	for (size_t i = 0; i < n; i++) {
		struct ptrace_held *last = count ? &list[count - 1] : NULL;

		if (!last || last->id.pid != list[i].id.pid) {
			list[count++] = list[i];
			continue;
		}
		last->threads++;
		last->stopped += list[i].stopped;
		if (!last->running)
			last->running = list[i].running;
	}
	return count;
}

int tracees_list(const struct tracees *t, struct ptrace_held **ret, size_t *ret_count,
	struct err **err)
{
	struct ptrace_held *list = calloc(t->count + 1, sizeof(*list));
	size_t n = 0;

	if (!list)
		return err_errno(err, ENOMEM, "list the held processes");
	for (size_t i = 0; i < t->count; i++) {
		bool stopped = t->list[i].state == TRACEE_STOPPED;

		if (t->list[i].state == TRACEE_LEAVING)
			continue;
		list[n++] = (struct ptrace_held){
			.id = t->list[i].process,
			.threads = 1,
			.stopped = stopped,
			.running = stopped ? 0 : t->list[i].tid,
		};
	}
	*ret_count = fold(list, n);
	*ret = list;
	return 0;
}

size_t tracees_running(const struct tracees *t)
{
	_cleanup_free_ struct ptrace_held *list = NULL;
	size_t count, running = 0;

	if (tracees_list(t, &list, &count, NULL) < 0)
		return t->count;
	for (size_t i = 0; i < count; i++)
		running += list[i].running != 0;
	return running;
}
