/* List, then watch from the list's version (API Concepts, "Efficient detection of changes"). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "kube/kube_internal.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 5000
/* A stream that lived this long was a good one, whatever it ended by. */
#define STREAM_GOOD_NS (2 * NS_PER_S)
/* The server ends a watch by itself after about this, and we resume. */
#define STREAM_SECONDS 300

struct kube_watch {
	struct kube *kube;
	struct kube_watch *prev, *next;
	char *path;
	kube_listener listener;
	void *data;
	char *version;			/* where to resume */
	cJSON **objects;
	size_t n_objects, capacity;

	struct kube_lister *lister;
	struct http_call *stream;
	uint64_t stream_ns;		/* when it began */
	bool stream_spoke;
	cJSON *lines;			/* that came and have not been told of: curl's callback is no
					   place to call listeners from */
	sd_event_source *deliver, *retry;
	unsigned failures;		/* in a row */
	bool relist;			/* what the next try is */
	bool synced, was_synced, lost;
	struct err *err;		/* the last, until it works again */
	unsigned telling;		/* how deep: a listener may run the loop */
	bool stopped;
};

static void watch_free(struct kube_watch *w)
{
	for (size_t i = 0; i < w->n_objects; i++)
		cJSON_Delete(w->objects[i]);
	free(w->objects);
	cJSON_Delete(w->lines);
	sd_event_source_disable_unref(w->deliver);
	sd_event_source_disable_unref(w->retry);
	err_free(w->err);
	free(w->version);
	free(w->path);
	free(w);
}

void kube_watch_stop(struct kube_watch *w)
{
	if (!w || w->stopped)
		return;
	kube_list_cancel(w->lister);
	http_cancel(w->stream);
	w->lister = NULL;
	w->stream = NULL;
	if (w->prev)
		w->prev->next = w->next;
	else
		w->kube->watches = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->stopped = true;
	/* From within its own listener: who tells, frees. */
	if (!w->telling)
		watch_free(w);
}

/* False: the listener stopped the watch; it is gone. */
static bool tell(struct kube_watch *w, enum kube_change change, const cJSON *object)
{
	w->telling++;
	w->listener(change, object, w->data);
	w->telling--;
	if (!w->stopped)
		return true;
	if (!w->telling)
		watch_free(w);
	return false;
}

/* ---- what is known ---- */

static const char *version_of(const cJSON *object)
{
	const char *s = kube_text(object, "metadata.resourceVersion");

	return s ? s : "";
}

static bool same_object(const cJSON *a, const cJSON *b)
{
	if (*kube_uid(a) || *kube_uid(b))
		return strcmp(kube_uid(a), kube_uid(b)) == 0;
	return strcmp(kube_name(a), kube_name(b)) == 0 &&
	       strcmp(kube_namespace(a), kube_namespace(b)) == 0;
}

static size_t object_find(const struct kube_watch *w, const cJSON *object)
{
	size_t i = 0;

	while (i < w->n_objects && !same_object(w->objects[i], object))
		i++;
	return i;
}

/* Takes object. */
static bool object_put(struct kube_watch *w, cJSON *object)
{
	size_t i = object_find(w, object);
	bool is_new = i == w->n_objects;

	if (!is_new && *version_of(object) &&
		strcmp(version_of(w->objects[i]), version_of(object)) == 0) {
		cJSON_Delete(object);
		return true;
	}
	if (i == w->capacity) {
		w->capacity = w->capacity * 2 + 16;
		w->objects = reallocarray(w->objects, w->capacity, sizeof(*w->objects));
		if (!w->objects)
			abort();
	}
	if (is_new)
		w->n_objects++;
	else
		cJSON_Delete(w->objects[i]);
	w->objects[i] = object;
	return tell(w, is_new ? KUBE_ADDED : KUBE_MODIFIED, object);
}

/* It is told of in its last form. Takes last (NULL: what is known is that). */
static bool object_remove(struct kube_watch *w, size_t i, cJSON *last)
{
	_cleanup_json_ cJSON *gone = last ? last : w->objects[i];

	if (i >= w->n_objects)
		return true;
	if (last)
		cJSON_Delete(w->objects[i]);
	memmove(&w->objects[i], &w->objects[i + 1],
		(w->n_objects - i - 1) * sizeof(*w->objects));
	w->n_objects--;
	return tell(w, KUBE_DELETED, gone);
}

/* ---- its course: list, stream, again ---- */

static void watch_list(struct kube_watch *w);
static void watch_stream(struct kube_watch *w);

static void version_set(struct kube_watch *w, const char *version)
{
	if (!*version)
		return;
	free(w->version);
	w->version = strdup(version);
}

static void retry_in(struct kube_watch *w, uint64_t ms)
{
	sd_event_source_set_time(w->retry, now_ns() / NS_PER_US + ms * 1000);
	sd_event_source_set_enabled(w->retry, SD_EVENT_ONESHOT);
}

static int on_retry(sd_event_source *s, uint64_t usec, void *data)
{
	struct kube_watch *w = data;

	(void)s;
	(void)usec;
	if (w->relist)
		watch_list(w);
	else
		watch_stream(w);
	return 0;
}

/* The first time, one more try is made at once: a server that restarts behind a balancer, or a
 * connection that a middlebox forgot, is no loss. e is copied. */
static void watch_failed(struct kube_watch *w, const struct err *e)
{
	uint64_t wait_ms = BACKOFF_FIRST_MS;

	err_set(&w->err, e ? e->code : -EIO, "%s", err_text(e));
	w->failures++;
	if (w->failures == 1 && w->synced && !w->relist) {
		retry_in(w, 0);
		return;
	}
	w->relist = true;
	for (unsigned i = 1; i < w->failures && wait_ms < BACKOFF_MAX_MS; i++)
		wait_ms *= 2;
	retry_in(w, wait_ms < BACKOFF_MAX_MS ? wait_ms : BACKOFF_MAX_MS);
	w->synced = false;
	if (!w->lost) {
		w->lost = true;
		tell(w, KUBE_LOST, NULL);
	}
}

static void watch_works(struct kube_watch *w)
{
	w->failures = 0;
	err_free(w->err);
	w->err = NULL;
}

/* items: what is there now; the rest is gone. False: stopped. */
static bool take_list(struct kube_watch *w, cJSON *items)
{
	for (size_t i = w->n_objects; i-- > 0;) {
		const cJSON *item;
		bool there = false;

		cJSON_ArrayForEach(item, items)
			there = there || same_object(w->objects[i], item);
		if (!there && !object_remove(w, i, NULL))
			return false;
	}
	while (items->child)
		if (!object_put(w, cJSON_DetachItemViaPointer(items, items->child)))
			return false;
	return true;
}

static void on_listed(int r, cJSON *list, const char *version, const struct err *e, void *data)
{
	_cleanup_json_ cJSON *items = list;
	struct kube_watch *w = data;

	w->lister = NULL;
	if (r < 0) {
		watch_failed(w, e);
		return;
	}
	version_set(w, version);
	if (!take_list(w, items))
		return;
	watch_works(w);
	w->relist = w->lost = false;
	w->synced = w->was_synced = true;
	if (!tell(w, KUBE_SYNCED, NULL))
		return;
	watch_stream(w);
}

static void watch_list(struct kube_watch *w)
{
	_cleanup_err_ struct err *err = NULL;

	if (kube_list_start(w->kube, w->path, on_listed, w, &w->lister, &err) < 0)
		watch_failed(w, err);
}

/* An event of the stream. False: stopped, or the stream is of no use any more. */
static bool take_event(struct kube_watch *w, cJSON *event)
{
	const char *type = kube_text(event, "type");
	cJSON *object = cJSON_DetachItemFromObjectCaseSensitive(event, "object");
	_cleanup_json_ cJSON *unused = object;

	if (!type || !cJSON_IsObject(object))
		return true;
	if (strcmp(type, "ERROR") == 0) {
		const cJSON *code = json_get(object, "code");
		const char *words = kube_text(object, "message");
		_cleanup_err_ struct err *err = NULL;
		bool gone = cJSON_IsNumber(code) && code->valueint == 410;

		http_cancel(w->stream);
		w->stream = NULL;
		w->relist = true;
		if (gone) {
			retry_in(w, 0);
			return false;
		}
		err_set(&err, kube_status_errno(cJSON_IsNumber(code) ? code->valueint : 500),
			"Kubernetes API: %s", words ? words : "an error without words");
		watch_failed(w, err);
		return false;
	}
	watch_works(w);
	version_set(w, version_of(object));
	if (strcmp(type, "BOOKMARK") == 0)
		return true;
	unused = NULL;
	if (strcmp(type, "DELETED") != 0)
		return object_put(w, object);
	return object_remove(w, object_find(w, object), object);
}

static bool deliver_lines(struct kube_watch *w)
{
	_cleanup_json_ cJSON *lines = steal_ptr(w->lines);

	while (lines && lines->child) {
		_cleanup_json_ cJSON *event = cJSON_DetachItemViaPointer(lines, lines->child);

		if (!take_event(w, event))
			return false;
	}
	return true;
}

static int on_deliver(sd_event_source *s, void *data)
{
	(void)s;
	deliver_lines(data);
	return 0;
}

static void on_line(const char *line, size_t length, void *data)
{
	struct kube_watch *w = data;
	cJSON *event = NULL;

	w->stream_spoke = true;
	/* What is no JSON ends the stream: something was missed. */
	if (json_parse(line, length, &event, NULL) < 0) {
		event = json_object();
		json_add_string(event, "type", "ERROR");
		json_add_item(event, "object", json_object());
	}
	if (!w->lines)
		w->lines = json_array();
	json_append(w->lines, event);
	sd_event_source_set_enabled(w->deliver, SD_EVENT_ONESHOT);
}

static void on_stream_end(const struct http_answer *a, void *data)
{
	struct kube_watch *w = data;
	_cleanup_err_ struct err *err = NULL;
	bool good;
	int r;

	w->stream = NULL;
	sd_event_source_set_enabled(w->deliver, SD_EVENT_OFF);
	if (!deliver_lines(w))
		return;
	r = kube_answer_read(w->kube, a, NULL, &err);
	good = w->stream_spoke || (r >= 0 && now_ns() - w->stream_ns > STREAM_GOOD_NS);
	if (good)
		watch_works(w);
	if (r >= 0 && good) {
		watch_stream(w);
	} else if (r == -ESTALE) {
		w->relist = true;
		retry_in(w, 0);
	} else {
		if (r >= 0)
			err_set(&err, -ECONNRESET, "Kubernetes API %s: it ended a watch at once",
				w->kube->config->server);
		watch_failed(w, err);
	}
}

static void watch_stream(struct kube_watch *w)
{
	_cleanup_free_ char *query = kube_path(
		"watch=1&allowWatchBookmarks=true&timeoutSeconds=%d&resourceVersion=%s",
		STREAM_SECONDS, w->version ? w->version : "0");
	_cleanup_free_ char *path = kube_path_with(w->path, query);
	_cleanup_err_ struct err *err = NULL;

	w->stream_ns = now_ns();
	w->stream_spoke = false;
	if (kube_request_start(w->kube, "GET", path, NULL, UINT64_MAX, on_line, on_stream_end, w,
		    &w->stream, &err) < 0)
		watch_failed(w, err);
}

int kube_watch_start(struct kube *k, const char *path, kube_listener listener, void *data,
	struct kube_watch **ret, struct err **err)
{
	struct kube_watch *w = calloc(1, sizeof(*w));
	sd_event *event = http_client_event(k->http);
	int r;

	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->kube = k;
	w->path = strdup(path);
	w->listener = listener;
	w->data = data;
	r = sd_event_add_defer(event, &w->deliver, on_deliver, w);
	if (r >= 0)
		r = sd_event_source_set_enabled(w->deliver, SD_EVENT_OFF);
	/* The first list is begun from the loop as well, so that no listener is called before *ret
	 * is set. */
	w->relist = true;
	if (r >= 0)
		r = sd_event_add_time(event, &w->retry, CLOCK_MONOTONIC, 0, 1, on_retry, w);
	if (r < 0) {
		watch_free(w);
		return err_errno(err, r, "event loop");
	}
	w->next = k->watches;
	if (w->next)
		w->next->prev = w;
	k->watches = w;
	*ret = w;
	return 0;
}

static bool is_refusal(int code)
{
	return code == -EPERM || code == -EACCES || code == -ENOENT || code == -EINVAL;
}

int kube_watch_wait(struct kube_watch *w, uint64_t limit_ns, struct err **err)
{
	uint64_t end = now_ns() + limit_ns;

	while (!w->was_synced) {
		int r;

		if (w->err && is_refusal(w->err->code))
			return err_set(err, w->err->code, "%s", w->err->text);
		if (now_ns() >= end)
			return err_set(err, -ETIMEDOUT, "%s", w->err ? w->err->text :
				"the Kubernetes API did not answer in time");
		r = http_client_turn(w->kube->http, end, err);
		if (r < 0)
			return r;
	}
	return 0;
}

size_t kube_watch_count(const struct kube_watch *w)
{
	return w->n_objects;
}

const cJSON *kube_watch_object(const struct kube_watch *w, size_t i)
{
	return i < w->n_objects ? w->objects[i] : NULL;
}
