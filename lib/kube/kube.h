/*
 * The Kubernetes API on the loop (Kubernetes API Concepts, kubernetes.io/docs/reference/using-api):
 * requests as the service account or the kubeconfig says, lists in pages, watches that resume.
 * Objects are cJSON as the server sent them; what reads them checks every field. No client-side
 * types: pgjolt reads a handful of fields of a handful of kinds.
 */
#pragma once

#include "core/json.h"
#include "http/http_client.h"

/* Where the API server is, and who we are there. */
struct kube_config {
	char *server;		/* "https://10.96.0.1:443", no slash at its end */
	struct http_tls tls;	/* files; data of a kubeconfig lies in memfds ("/proc/self/fd/N") */
	int fds[3];		/* these memfds; -1 */
	char *token_path;	/* read again for each request: service-account tokens rotate; or */
	char *token;
	char *default_namespace;	/* of the context or the service account; "default" if none */
	char *source;		/* for messages: "in-cluster", "FILE, context NAME" */
};
void kube_config_free(struct kube_config *c);
DEFINE_CLEANUP(struct kube_config, kube_config_free)

/* /var/run/secrets/kubernetes.io/serviceaccount and KUBERNETES_SERVICE_HOST, _PORT. -ENOENT: not in a
 * pod with a service account. */
int kube_config_in_cluster(struct kube_config **ret, struct err **err);
/* The same with the account's files (token, ca.crt, namespace) in another folder. */
int kube_config_in_folder(const char *folder, struct kube_config **ret, struct err **err);
/* context NULL: current-context. A context that wants a program run (exec, auth-provider) is refused
 * with the reason: give it a token or a certificate. */
int kube_config_load(const char *path, const char *context, struct kube_config **ret,
	struct err **err);
/* As kubectl looks: path, else each file of $KUBECONFIG, else in-cluster, else ~/.kube/config.
 * -ENOENT: there is none of them, and no Kubernetes to speak of. */
int kube_config_find(const char *path, const char *context, struct kube_config **ret,
	struct err **err);

/* The token that a file holds now (-EINVAL: none). Caller frees, and wipes it before. */
int kube_token_read(const char *path, char **ret, struct err **err);

struct kube;
/* Takes config. Sends nothing yet. */
int kube_new(struct http_client *http, struct kube_config *config, struct kube **ret,
	struct err **err);
/* Watches and calls under way end without their callback. */
void kube_free(struct kube *k);
DEFINE_CLEANUP(struct kube, kube_free)
const struct kube_config *kube_config_of(const struct kube *k);

/*
 * path: "/api/v1/namespaces/NS/pods?labelSelector=...", percent-encoded (kube_path). Runs the loop, 5 s
 * at most. Errors have the words of the server's Status: 401 and 403 are -EACCES and -EPERM,
 * 404 -ENOENT, 409 -EEXIST, 410 -ESTALE. ret_json may be NULL.
 */
int kube_get(struct kube *k, const char *path, cJSON **ret_json, struct err **err);
int kube_send(struct kube *k, const char *method, const char *path, const cJSON *body,
	cJSON **ret_json, struct err **err);
/* All pages of a list: an array of the items (caller deletes). */
int kube_list(struct kube *k, const char *path, cJSON **ret_items, struct err **err);

/* The same without waiting. json is borrowed; r < 0: failed, e has the words (borrowed). done is called
 * once, from the loop; *ret_call (may be NULL) is valid until then. */
typedef void (*kube_done)(int r, const cJSON *json, const struct err *e, void *data);
struct kube_call;
int kube_start(struct kube *k, const char *method, const char *path, const cJSON *body,
	uint64_t timeout_ms, kube_done done, void *data, struct kube_call **ret_call, struct err **err);
void kube_cancel(struct kube_call *call);

/* printf with every %s percent-encoded, for paths and selectors; caller frees. */
char *kube_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The name of an object of ours that stands for a PostgreSQL cluster: "pgjolt-run-" and "shop/orders" is
 * "pgjolt-run-shop.orders": no namespace has a dot. Caller frees. */
char *kube_cluster_object(const char *prefix, const char *cluster);

enum kube_change {
	KUBE_ADDED,
	KUBE_MODIFIED,
	KUBE_DELETED,
	KUBE_SYNCED,	/* object NULL: what a (new) list held has been told of */
	KUBE_LOST,	/* object NULL: the server does not answer; what is known stays, KUBE_SYNCED follows */
	KUBE_CHANGE_MAX,
};

/*
 * A list, then a watch from its resourceVersion, with bookmarks; resumed where it ended; listed anew on
 * 410 Gone, when objects that vanished in between are told of as deleted. Backs off up to 5 s while
 * the server is away. Each object is told of once a version. object is borrowed.
 */
typedef void (*kube_listener)(enum kube_change change, const cJSON *object, void *data);
struct kube_watch;
int kube_watch_start(struct kube *k, const char *path, kube_listener listener, void *data,
	struct kube_watch **ret, struct err **err);
void kube_watch_stop(struct kube_watch *w);
/* Runs the loop until the first list is in. -ETIMEDOUT, or the server's refusal (-EPERM ...). */
int kube_watch_wait(struct kube_watch *w, uint64_t limit_ns, struct err **err);
/* What is known now: n objects, borrowed until the loop runs. */
size_t kube_watch_count(const struct kube_watch *w);
const cJSON *kube_watch_object(const struct kube_watch *w, size_t i);

/* Fields of any object; "" or NULL where it has none. Borrowed. */
const char *kube_name(const cJSON *object);
const char *kube_namespace(const cJSON *object);
const char *kube_uid(const cJSON *object);
const char *kube_label(const cJSON *object, const char *key);
const char *kube_annotation(const cJSON *object, const char *key);
/* By a dotted path without arrays: kube_text(pod, "status.podIP"). NULL: not there or no string. */
const char *kube_text(const cJSON *object, const char *path);
const cJSON *kube_field(const cJSON *object, const char *path);
