#include "run/cluster_lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"

#define LEASE_SECONDS 15
#define RENEW_NS (3 * NS_PER_S)
#define LOOK_NS (500 * NS_PER_MS)

struct cluster_lock {
	struct kube *kube;
	char *path;			/* of the Lease */
	cJSON *lease;			/* as it was last accepted */
	sd_event_source *timer;
	struct kube_call *renewing;
	void (*lost)(const char *why, void *data);
	void *data;
};

static void add_time(cJSON *spec, const char *key)
{
	char seconds[32], text[64];
	struct timespec t;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &t);
	strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", gmtime_r(&t.tv_sec, &tm));
	snprintf(text, sizeof(text), "%s.%06ldZ", seconds, t.tv_nsec / 1000);
	cJSON_DeleteItemFromObjectCaseSensitive(spec, key);
	json_add_string(spec, key, text);
}

static cJSON *lease_new(const char *namespace, const char *name, const char *run)
{
	cJSON *lease = json_object(), *metadata = json_object(), *spec = json_object();
	char host[256] = "", holder[400];

	gethostname(host, sizeof(host) - 1);
	snprintf(holder, sizeof(holder), "%s %s", host, run);
	json_add_string(lease, "apiVersion", "coordination.k8s.io/v1");
	json_add_string(lease, "kind", "Lease");
	json_add_item(lease, "metadata", metadata);
	json_add_string(metadata, "name", name);
	json_add_string(metadata, "namespace", namespace);
	json_add_item(lease, "spec", spec);
	json_add_string(spec, "holderIdentity", holder);
	json_add_uint(spec, "leaseDurationSeconds", LEASE_SECONDS);
	add_time(spec, "acquireTime");
	add_time(spec, "renewTime");
	return lease;
}

static const char *version_of(const cJSON *lease)
{
	const char *s = kube_text(lease, "metadata.resourceVersion");

	return s ? s : "";
}

static int run_for(struct session *s, uint64_t ns, struct err **err)
{
	for (uint64_t end = now_ns() + ns, now; (now = now_ns()) < end;) {
		int r = sd_event_run(s->event, (end - now) / NS_PER_US + 1);

		if (r < 0)
			return err_errno(err, r, "event loop");
	}
	return 0;
}

/* How long its holder may be silent, as it says itself. */
static uint64_t patience_ns(const cJSON *lease)
{
	const cJSON *seconds = kube_field(lease, "spec.leaseDurationSeconds");

	if (!cJSON_IsNumber(seconds) || seconds->valueint < 1 || seconds->valueint > 60)
		return LEASE_SECONDS * NS_PER_S;
	return (uint64_t)seconds->valueint * NS_PER_S;
}

/* Watches what another has left. 0: it does not move, *ret is it, for us to replace; 1: it is gone. */
static int wait_stale(struct session *s, const char *path, const char *cluster, cJSON **ret,
	struct err **err)
{
	_cleanup_json_ cJSON *first = NULL;
	uint64_t since = now_ns();

	while (true) {
		_cleanup_json_ cJSON *now = NULL;
		_cleanup_err_ struct err *cause = NULL;
		const char *holder;
		int r = kube_get(s->kube, path, &now, &cause);

		if (r == -ENOENT)
			return 1;
		if (r < 0)
			return err_set(err, r, "%s", err_text(cause));
		holder = kube_text(now, "spec.holderIdentity");
		if (first && strcmp(version_of(first), version_of(now)) != 0)
			return err_set(err, -EBUSY,
				"another run drills cluster %s (%s, since %s); one at a time", cluster,
				holder ? holder : "unknown",
				kube_text(now, "spec.acquireTime") ?
					kube_text(now, "spec.acquireTime") :
					"unknown");
		if (!first)
			fprintf(stderr,
				"pgjolt: cluster %s is locked by another run (%s); waiting up to %llu s to "
				"see whether it lives\n",
				cluster, holder ? holder : "unknown", patience_ns(now) / NS_PER_S);
		if (!first)
			first = steal_ptr(now);
		if (now_ns() - since > patience_ns(first)) {
			*ret = steal_ptr(first);
			return 0;
		}
		r = run_for(s, LOOK_NS, err);
		if (r < 0)
			return r;
	}
}

/* ---- renewing ---- */

static void lock_lost(struct cluster_lock *l, const char *why)
{
	sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
	cJSON_Delete(l->lease);
	l->lease = NULL;
	l->lost(why, l->data);
}

static bool is_ours(const struct cluster_lock *l, const cJSON *lease)
{
	const char *holder = kube_text(lease, "spec.holderIdentity");
	const char *own = kube_text(l->lease, "spec.holderIdentity");

	return holder && own && strcmp(holder, own) == 0;
}

static void on_looked(int r, const cJSON *json, const struct err *e, void *data)
{
	struct cluster_lock *l = data;

	(void)e;
	l->renewing = NULL;
	if (r >= 0 && json && is_ours(l, json)) {
		cJSON_Delete(l->lease);
		l->lease = cJSON_Duplicate(json, true);
	} else if (r >= 0 && json) {
		lock_lost(l, "another pgjolt has taken the cluster over: we were silent for too long");
	} else if (r == -ENOENT) {
		lock_lost(l, "somebody removed the run's lock");
	}
}

static void on_renewed(int r, const cJSON *json, const struct err *e, void *data)
{
	struct cluster_lock *l = data;

	/* Also where a renewal of ours was taken and its answer lost: a drill may cut off the API server. */
	if (r != -EEXIST)
		on_looked(r, json, e, data);
	else if (kube_start(l->kube, "GET", l->path, NULL, RENEW_NS / NS_PER_MS, on_looked, l,
			 &l->renewing, NULL) < 0)
		l->renewing = NULL;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *data)
{
	struct cluster_lock *l = data;
	cJSON *spec = cJSON_GetObjectItemCaseSensitive(l->lease, "spec");

	(void)usec;
	sd_event_source_set_time(s, now_ns() / NS_PER_US + RENEW_NS / NS_PER_US);
	sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
	if (l->renewing || !spec)
		return 0;
	add_time(spec, "renewTime");
	/* One that cannot be sent is tried again at the next turn. */
	if (kube_start(l->kube, "PUT", l->path, l->lease, RENEW_NS / NS_PER_MS, on_renewed, l,
		    &l->renewing, NULL) < 0)
		l->renewing = NULL;
	return 0;
}

static int lock_new(struct session *s, char *path, cJSON *lease, struct cluster_lock **ret,
	struct err **err)
{
	struct cluster_lock *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		abort();
	l->kube = s->kube;
	l->path = path;
	l->lease = lease;
	r = sd_event_add_time(s->event, &l->timer, CLOCK_MONOTONIC,
		(now_ns() + RENEW_NS) / NS_PER_US, 1000, on_timer, l);
	if (r < 0) {
		cluster_lock_release(l);
		return err_errno(err, r, "event loop");
	}
	*ret = l;
	return 0;
}

/* Two tries: what was there may be gone when it is looked at. */
static int lease_take(struct session *s, const char *cluster, const char *all, const char *one,
	cJSON *lease, cJSON **ret, struct err **err)
{
	for (int i = 0; i < 2; i++) {
		_cleanup_err_ struct err *cause = NULL;
		_cleanup_json_ cJSON *stale = NULL, *over = NULL;
		int r = kube_send(s->kube, "POST", all, lease, ret, &cause);

		if (r != -EEXIST)
			return r < 0 ? err_set(err, r, "%s", err_text(cause)) : 0;
		r = wait_stale(s, one, cluster, &stale, err);
		if (r < 0)
			return r;
		if (r == 1)
			continue;
		/* One that is to be created has no version. */
		over = cJSON_Duplicate(lease, true);
		json_add_string(cJSON_GetObjectItemCaseSensitive(over, "metadata"), "resourceVersion",
			version_of(stale));
		r = kube_send(s->kube, "PUT", one, over, ret, &cause);
		if (r >= 0)
			return 0;
		if (r != -EEXIST)
			return err_set(err, r, "%s", err_text(cause));
	}
	return err_set(err, -EBUSY, "another run was faster to lock cluster %s", cluster);
}

int cluster_lock_take(struct session *s, const char *cluster, const char *run,
	void (*lost)(const char *why, void *data), void *data, struct cluster_lock **ret,
	struct err **err)
{
	_cleanup_free_ char *name = kube_cluster_object("pgjolt-run-", cluster), *all = NULL, *one = NULL;
	_cleanup_json_ cJSON *lease = NULL, *taken = NULL;
	int r;

	*ret = NULL;
	if (!s->kube)
		return 0;
	all = kube_path("/apis/coordination.k8s.io/v1/namespaces/%s/leases", s->agents_namespace);
	one = kube_path("/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s", s->agents_namespace,
		name);
	lease = lease_new(s->agents_namespace, name, run);
	r = lease_take(s, cluster, all, one, lease, &taken, err);
	if (r < 0)
		return err_wrap(err, r, "the lock of cluster %s (Lease %s/%s)", cluster,
			s->agents_namespace, name);
	r = lock_new(s, steal_ptr(one), steal_ptr(taken), ret, err);
	if (r >= 0) {
		(*ret)->lost = lost;
		(*ret)->data = data;
	}
	return r;
}

/* Who takes a lease over keeps its uid: so by the version in which it was seen to be ours. */
static void lease_delete(const struct cluster_lock *l)
{
	_cleanup_json_ cJSON *now = NULL, *options = json_object();
	cJSON *preconditions = json_object();

	json_add_item(options, "preconditions", preconditions);
	if (kube_get(l->kube, l->path, &now, NULL) < 0 || !is_ours(l, now))
		return;
	json_add_string(options, "apiVersion", "v1");
	json_add_string(options, "kind", "DeleteOptions");
	json_add_string(preconditions, "uid", kube_uid(now));
	json_add_string(preconditions, "resourceVersion", version_of(now));
	kube_send(l->kube, "DELETE", l->path, options, NULL, NULL);
}

void cluster_lock_release(struct cluster_lock *l)
{
	if (!l)
		return;
	kube_cancel(l->renewing);
	sd_event_source_disable_unref(l->timer);
	if (l->lease)
		lease_delete(l);
	cJSON_Delete(l->lease);
	free(l->path);
	free(l);
}
