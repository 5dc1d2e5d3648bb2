/* Between the files of this room. */
#pragma once

#include "kube/kube.h"

struct kube {
	struct http_client *http;
	struct kube_config *config;
	struct kube_call *calls;
	struct kube_lister *listers;
	struct kube_watch *watches;
};

/* Is a request to path with the credentials of this moment. line NULL: one answer, else a stream.
 * call_data is what line and done get. */
int kube_request_start(struct kube *k, const char *method, const char *path, const cJSON *body,
	uint64_t timeout_ms, void (*line)(const char *line, size_t length, void *data),
	http_done done, void *data, struct http_call **ret_call, struct err **err);
/* The error that an answer is, with the words of its Status, or 0 with the body parsed (ret_json may
 * be NULL; *ret_json is NULL for an empty body). */
int kube_answer_read(const struct kube *k, const struct http_answer *a, cJSON **ret_json,
	struct err **err);
/* The errno class of a Status or HTTP code. */
int kube_status_errno(int code);

/* A list's pages, without waiting: items is an array of its own (taken over by done), version the
 * list's resourceVersion. r < 0: items NULL. Called once. */
typedef void (*kube_listed)(int r, cJSON *items, const char *version, const struct err *e,
	void *data);
struct kube_lister;
int kube_list_start(struct kube *k, const char *path, kube_listed done, void *data,
	struct kube_lister **ret, struct err **err);
void kube_list_cancel(struct kube_lister *l);

/* The loop until *done; -ETIMEDOUT after limit_ns. */
int kube_loop_until(struct kube *k, const bool *done, uint64_t limit_ns, struct err **err);
/* path with "?query" or "&query" after it; caller frees. */
char *kube_path_with(const char *path, const char *query);
