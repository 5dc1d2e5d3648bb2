/* A list in pages (API Concepts, "Retrieving large results sets in chunks"). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "kube/kube_internal.h"

#define PAGE_ITEMS 500
#define PAGE_MS 10000
/* A server that never comes to an end is none. */
#define PAGES_MAX 2000
#define LIST_LIMIT_NS (30 * NS_PER_S)

struct kube_lister {
	struct kube *kube;
	struct kube_lister *prev, *next;
	struct http_call *http;
	char *path;
	cJSON *items;
	unsigned pages;
	bool whole;	/* without pages: their snapshot was gone before the last */
	kube_listed done;
	void *data;
};

static void lister_free(struct kube_lister *l)
{
	if (l->prev)
		l->prev->next = l->next;
	else
		l->kube->listers = l->next;
	if (l->next)
		l->next->prev = l->prev;
	cJSON_Delete(l->items);
	free(l->path);
	free(l);
}

void kube_list_cancel(struct kube_lister *l)
{
	if (!l)
		return;
	http_cancel(l->http);
	lister_free(l);
}

static void lister_end(struct kube_lister *l, int r, const char *version, const struct err *e)
{
	cJSON *items = r < 0 ? NULL : steal_ptr(l->items);
	kube_listed done = l->done;
	void *data = l->data;

	lister_free(l);
	done(r, items, version, e, data);
}

static void on_page(const struct http_answer *a, void *data);

static int ask_page(struct kube_lister *l, const char *token, struct err **err)
{
	_cleanup_free_ char *query = token && *token ?
		kube_path("limit=%d&continue=%s", PAGE_ITEMS, token) :
		kube_path("limit=%d", l->whole ? 0 : PAGE_ITEMS);
	_cleanup_free_ char *path = kube_path_with(l->path, query);

	l->pages++;
	return kube_request_start(l->kube, "GET", path, NULL, PAGE_MS, NULL, on_page, l, &l->http,
		err);
}

static int take_items(struct kube_lister *l, cJSON *page, struct err **err)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(page, "items");

	/* null stands for none where the server is written in Go. */
	if (cJSON_IsNull(list))
		return 0;
	if (!cJSON_IsArray(list))
		return err_set(err, -EPROTO, "Kubernetes API %s%s: a list without \"items\"",
			l->kube->config->server, l->path);
	while (list->child) {
		cJSON *item = cJSON_DetachItemViaPointer(list, list->child);

		if (cJSON_IsObject(item))
			json_append(l->items, item);
		else
			cJSON_Delete(item);
	}
	return 0;
}

static void on_page(const struct http_answer *a, void *data)
{
	struct kube_lister *l = data;
	_cleanup_json_ cJSON *page = NULL;
	_cleanup_err_ struct err *err = NULL;
	const char *token = NULL, *version = NULL;
	int r = kube_answer_read(l->kube, a, &page, &err);

	l->http = NULL;
	if (r == -ESTALE && l->pages > 1 && !l->whole) {
		cJSON_Delete(l->items);
		l->items = json_array();
		l->whole = true;
		r = ask_page(l, NULL, &err);
		if (r >= 0)
			return;
	} else if (r >= 0) {
		r = take_items(l, page, &err);
		token = kube_text(page, "metadata.continue");
		version = kube_text(page, "metadata.resourceVersion");
	}
	if (r >= 0 && token && *token) {
		if (l->pages < PAGES_MAX)
			r = ask_page(l, token, &err);
		else
			r = err_set(&err, -EFBIG, "Kubernetes API %s%s: the list does not end",
				l->kube->config->server, l->path);
		if (r >= 0)
			return;
	}
	lister_end(l, r, version ? version : "", err);
}

int kube_list_start(struct kube *k, const char *path, kube_listed done, void *data,
	struct kube_lister **ret, struct err **err)
{
	struct kube_lister *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	*l = (struct kube_lister){.kube = k, .next = k->listers, .done = done, .data = data,
		.items = json_array(), .path = strdup(path)};
	if (k->listers)
		k->listers->prev = l;
	k->listers = l;
	r = ask_page(l, NULL, err);
	if (r < 0) {
		lister_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

struct waiting {
	bool done;
	int r;
	cJSON *items;
	struct err *err;
};

static void on_listed(int r, cJSON *items, const char *version, const struct err *e, void *data)
{
	struct waiting *w = data;

	(void)version;
	w->done = true;
	w->r = r;
	w->items = items;
	if (r < 0)
		err_set(&w->err, r, "%s", err_text(e));
}

int kube_list(struct kube *k, const char *path, cJSON **ret_items, struct err **err)
{
	struct waiting w = {0};
	_cleanup_err_ struct err *cause = NULL;
	struct kube_lister *l = NULL;
	int r = kube_list_start(k, path, on_listed, &w, &l, err);

	if (r < 0)
		return r;
	r = kube_loop_until(k, &w.done, LIST_LIMIT_NS, err);
	if (!w.done) {
		kube_list_cancel(l);
		return r;
	}
	cause = w.err;
	if (w.r < 0)
		return err_set(err, w.r, "%s", err_text(cause));
	*ret_items = w.items;
	return 0;
}
