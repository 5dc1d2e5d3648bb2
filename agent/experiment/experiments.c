/* All experiments of a node: the list, the journal's replay, the end of everything. */
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include "core/clock.h"
#include "experiment/machine.h"

#define BUSY_STUCK_MS	 60000	/* of what nobody knows the end of */
#define REVERT_ALL_TRIES 4	/* 0.7 s of waiting in all */

int experiments_new(const struct experiments_config *config, struct experiments **ret,
	struct err **err)
{
	struct experiments *all = calloc(1, sizeof(*all));
	_cleanup_free_ char *damage = NULL;
	int r;

	if (!all)
		return err_set(err, ENOMEM, "no memory");
	all->config = *config;
	all->ids = id_memory_new();
	r = all->ids ? id_file_open(journal_folder(config->journal), all->ids, &all->id_file, &damage, err) :
		err_set(err, ENOMEM, "no memory");
	if (r < 0) {
		id_memory_free(all->ids);
		free(all);
		return r;
	}
	if (damage)
		experiments_tell(all, "error", NULL, NULL, "%s", damage);
	*ret = all;
	return 0;
}

void experiments_free(struct experiments *all)
{
	size_t left;

	if (!all)
		return;
	experiments_revert_all(all, END_SHUTDOWN, &left, NULL);
	for (size_t i = 0; i < all->count; i++)
		experiment_free(all->list[i]);
	free(all->list);
	strv_free(all->bad);
	free(all->reason);
	free(all->lock_reason);
	id_memory_free(all->ids);
	id_file_free(all->id_file);
	free(all);
}

void experiments_tell(struct experiments *all, const char *kind, const struct experiment *e,
	const char *state, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	struct agent_event event = {.at_ns = now_ns(), .kind = (char *)kind, .state = (char *)state};
	va_list args;
	int n;

	va_start(args, fmt);
	n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0)
		text = NULL;
	if (e) {
		event.experiment = e->id;
		event.instance = e->instance_name;
	}
	event.text = text ? text : (char *)"";
	if (all->config.listener)
		all->config.listener(&event, all->config.data);
}

void experiments_remove(struct experiments *all, struct experiment *e)
{
	for (size_t i = 0; i < all->count; i++) {
		if (all->list[i] != e)
			continue;
		experiment_free(e);
		all->count--;
		memmove(&all->list[i], &all->list[i + 1],
			(all->count - i) * sizeof(struct experiment *));
		return;
	}
}

/* Forgets the oldest that ended, beyond those that are kept. */
static void experiments_trim(struct experiments *all)
{
	struct experiment *oldest = NULL;
	size_t ended = 0;

	for (size_t i = 0; i < all->count; i++) {
		if (!experiment_is_ended(all->list[i]))
			continue;
		if (!oldest)
			oldest = all->list[i];
		ended++;
	}
	if (ended > EXPERIMENT_ENDED_KEPT)
		experiments_remove(all, oldest);
}

void experiments_add(struct experiments *all, struct experiment *e)
{
	experiments_trim(all);
	id_memory_add(all->ids, e->id);
	if (all->count == all->capacity) {
		size_t capacity = all->capacity ? all->capacity * 2 : 8;
		struct experiment **list = reallocarray(all->list, capacity, sizeof(*list));

		if (!list)
			abort();
		all->list = list;
		all->capacity = capacity;
	}
	all->list[all->count++] = e;
}

int experiments_find(struct experiments *all, const char *id, struct experiment **ret,
	struct err **err)
{
	for (size_t i = 0; i < all->count; i++) {
		if (strcmp(all->list[i]->id, id) == 0) {
			*ret = all->list[i];
			return 0;
		}
	}
	if (id_memory_has(all->ids, id))
		return err_set(err, ESTALE, "experiment %s has ended and is no longer kept", id);
	return err_set(err, ENOENT, "no experiment '%s'", id);
}

static uint64_t busy_ms(const struct experiment *e)
{
	uint64_t now = boot_ns(), end = now;

	switch (e->state) {
	case EXPERIMENT_ARMED:
		/* Fired at its lease's last moment. */
		end = e->lease_end_boot_ns + e->duration_ms * NS_PER_MS;
		break;
	case EXPERIMENT_FIRING:
	case EXPERIMENT_ACTIVE:
		end = e->fault.deadline_boot_ns;
		break;
	case EXPERIMENT_NEW:
		end = now + e->duration_ms * NS_PER_MS;
		break;
	case EXPERIMENT_REVERTING:
	case EXPERIMENT_VERIFYING:
	case EXPERIMENT_STUCK:
		end = now + BUSY_STUCK_MS * NS_PER_MS;
		break;
	default:
		return 0;
	}
	return end > now ? (end - now) / NS_PER_MS + 1 : 1;
}

uint64_t experiments_busy_ms(const struct experiments *all, const char *instance)
{
	uint64_t most = 0;

	for (size_t i = 0; i < all->count; i++) {
		uint64_t ms = strcmp(all->list[i]->instance_name, instance) == 0 ? busy_ms(all->list[i]) : 0;

		most = ms > most ? ms : most;
	}
	return most;
}

int experiments_list(struct experiments *all, struct experiment ***ret, size_t *ret_count)
{
	struct experiment **list = calloc(all->count + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	if (all->count)
		memcpy(list, all->list, all->count * sizeof(*list));
	*ret = list;
	*ret_count = all->count;
	return 0;
}

/* Why the journal's broken entries stand in the way. */
static char *bad_reason(char *const *bad)
{
	_cleanup_free_ char *names = NULL;
	char *reason;

	for (size_t i = 0; bad[i] && i < 8; i++) {
		char *more;

		if (asprintf(&more, "%s%s%s", names ? names : "", names ? ", " : "", bad[i]) < 0)
			return NULL;
		free(names);
		names = more;
	}
	if (asprintf(&reason,
		     "the journal holds %zu broken %s (%s), each maybe a fault's only trace; look, then stop "
		     "the agent and run 'pgjolt-agent revert-all --discard-bad'",
		     strv_length(bad), strv_length(bad) == 1 ? "entry" : "entries", names) < 0)
		return NULL;
	return reason;
}

bool experiments_accepting(const struct experiments *all, const char **ret_reason)
{
	struct experiments *cache = (struct experiments *)all;	/* only its words change */
	const struct experiment *stuck = NULL;
	int n;

	*ret_reason = NULL;
	if (all->stopping) {
		*ret_reason = "the agent is stopping";
		return false;
	}
	for (size_t i = 0; i < all->count && !stuck; i++)
		if (all->list[i]->state == EXPERIMENT_STUCK)
			stuck = all->list[i];
	if (!stuck && !all->bad) {
		*ret_reason = all->lock_reason;
		return !all->lock_reason;
	}
	free(cache->reason);
	cache->reason = NULL;
	if (stuck) {
		n = asprintf(&cache->reason, "experiment %s (%s on %s) is stuck: %s", stuck->id,
			stuck->fault_name, stuck->instance_name, stuck->error ? stuck->error : "");
		if (n < 0)
			cache->reason = NULL;
	} else {
		cache->reason = bad_reason(all->bad);
	}
	*ret_reason = cache->reason ? cache->reason : "an earlier fault is left behind";
	return false;
}

/* The entry stands for something that this agent cannot undo by itself. */
static int entry_is_bad(struct experiments *all, const char *id, const char *why, struct err **err)
{
	char *name;
	int r;

	experiments_tell(all, "error", NULL, NULL, "journal entry %s is kept aside: %s", id, why);
	r = journal_set_aside(all->config.journal, id, err);
	if (r < 0)
		return r;
	if (asprintf(&name, "%s.json.bad", id) < 0)
		return err_set(err, ENOMEM, "no memory");
	strv_push(&all->bad, name);
	return 0;
}

static int replay_entry(struct experiments *all, struct journal_entry *entry, struct err **err)
{
	_cleanup_err_ struct err *why = NULL;
	struct experiment *e;
	int r;

	if (strcmp(entry->boot_id, all->config.boot_id) != 0) {
		r = journal_remove(all->config.journal, entry->experiment, err);
		if (r >= 0)
			experiments_tell(all, "instance", NULL, NULL,
				"journal entry %s (%s on %s) is of an earlier boot: nothing is left of it",
				entry->experiment, entry->fault, entry->instance);
		return r;
	}
	e = experiment_new(all, entry->experiment, entry->run, entry->fault, entry->instance);
	if (!e)
		return err_set(err, ENOMEM, "no memory");
	r = all->config.find_fault(entry->fault, &e->driver, &why);
	if (r < 0) {
		experiment_free(e);
		return entry_is_bad(all, entry->experiment, err_text(why), err);
	}
	e->undo = (struct undo){.spec = e->driver->spec, .record = steal_ptr(entry->undo)};
	e->postmaster = (struct proc_id){entry->postmaster.pid, entry->postmaster.start_ticks};
	e->end_reason = END_REPLAY;
	experiments_add(all, e);
	if (experiment_end(e, &why) == -EBADMSG) {
		experiments_remove(all, e);
		return entry_is_bad(all, entry->experiment, err_text(why), err);
	}
	return 0;
}

int experiments_replay(struct experiments *all, struct err **err)
{
	struct journal_entry **entries = NULL;
	size_t count = 0;
	int r;

	r = journal_read_all(all->config.journal, &entries, &count, &all->bad, err);
	if (r < 0)
		return err_wrap(err, r, "replay");
	for (size_t i = 0; i < strv_length(all->bad); i++)
		experiments_tell(all, "error", NULL, NULL,
			"journal: %s is no valid entry and is kept aside", all->bad[i]);
	for (size_t i = 0; i < count && r >= 0; i++)
		r = replay_entry(all, entries[i], err);
	for (size_t i = 0; i < count; i++)
		journal_entry_free(entries[i]);
	free(entries);
	return r < 0 ? err_wrap(err, r, "replay") : 0;
}

void experiments_lock(struct experiments *all, const char *reason)
{
	free(all->lock_reason);
	all->lock_reason = reason ? strdup(reason) : NULL;
	if (!reason)
		return;
	if (!all->lock_reason)
		abort();
	for (size_t i = all->count; i-- > 0;)
		experiment_revert(all->list[i], END_STOPPED, NULL);
}

bool experiments_is_locked(const struct experiments *all)
{
	const char *reason;

	return !experiments_accepting(all, &reason) && all->lock_reason && reason == all->lock_reason;
}

const char *experiments_lock_reason(const struct experiments *all)
{
	return all->lock_reason;
}

int experiments_revert_all(struct experiments *all, enum end_reason reason, size_t *ret_left,
	struct err **err)
{
	struct timespec wait = {.tv_nsec = 100 * (long)NS_PER_MS};
	size_t left = 0;

	if (reason == END_SHUTDOWN)
		all->stopping = true;
	for (unsigned attempt = 0; attempt < REVERT_ALL_TRIES; attempt++) {
		if (attempt > 0) {
			nanosleep(&wait, NULL);
			wait.tv_nsec *= 2;
		}
		left = 0;
		for (size_t i = 0; i < all->count; i++) {
			struct experiment *e = all->list[i];

			e->retrying = e->state == EXPERIMENT_STUCK;
			experiment_revert(e, reason, NULL);
			e->retrying = false;
			left += e->state == EXPERIMENT_STUCK;
		}
		if (left == 0)
			break;
	}
	*ret_left = left;
	(void)err;
	return 0;
}
