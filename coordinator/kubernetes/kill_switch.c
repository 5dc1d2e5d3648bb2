#include "kubernetes/kill_switch.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int read_map(struct kube *k, const char *path, cJSON **ret, struct err **err)
{
	_cleanup_err_ struct err *cause = NULL;
	int r = kube_get(k, path, ret, &cause);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? err_set(err, r, "kill switch: %s", err_text(cause)) : 0;
}

static char *who(void)
{
	const struct passwd *p = getpwuid(geteuid());
	char host[256] = "", *text = NULL;

	gethostname(host, sizeof(host) - 1);
	if (asprintf(&text, "%s@%s", p ? p->pw_name : "pgjolt", host) < 0)
		abort();
	return text;
}

static cJSON *map_of(const char *namespace, bool locked, const char *reason)
{
	cJSON *map = json_object(), *metadata = json_object(), *data = json_object();
	_cleanup_free_ char *by = who();
	char at[32];
	time_t now = time(NULL);
	struct tm tm;

	strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	json_add_string(map, "apiVersion", "v1");
	json_add_string(map, "kind", "ConfigMap");
	json_add_item(map, "metadata", metadata);
	json_add_string(metadata, "name", STOP_SWITCH_NAME);
	json_add_string(metadata, "namespace", namespace);
	json_add_item(map, "data", data);
	json_add_string(data, "stop", locked ? "true" : "false");
	/* A merge takes null for "remove this". */
	json_add_string(data, "reason", locked ? reason : NULL);
	json_add_string(data, "by", by);
	json_add_string(data, "at", at);
	return map;
}

int kill_switch_set(struct kube *k, const char *namespace, bool locked, const char *reason,
	bool *ret_was, struct err **err)
{
	_cleanup_free_ char *all = kube_path("/api/v1/namespaces/%s/configmaps", namespace);
	_cleanup_free_ char *one = kube_path("/api/v1/namespaces/%s/configmaps/%s", namespace,
		STOP_SWITCH_NAME);
	_cleanup_json_ cJSON *before = NULL, *map = map_of(namespace, locked, reason);
	int r = read_map(k, one, &before, err);

	if (r < 0)
		return r;
	if (ret_was)
		*ret_was = stop_switch_is_on(before);
	if (before)
		r = kube_send(k, "PATCH", one, map, NULL, err);
	else if (locked)
		r = kube_send(k, "POST", all, map, NULL, err);
	return r < 0 ? err_wrap(err, r, "kill switch") : 0;
}
