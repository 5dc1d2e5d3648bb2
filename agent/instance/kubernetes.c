#include "instance/kubernetes.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include "core/cleanup.h"

static const char *const node_log_roots[] = {"/var/log/pods", "/proc/1/root/var/log/pods", NULL};

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Reads a UID at s; what follows it must be the end of the path's component, or ".slice". */
static bool uid_at(const char *s, char ret[static POD_UID_MAX])
{
	static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t digits = strspn(s, "0123456789abcdef"), n;
	bool dashes = digits != 32;

	n = dashes ? strlen(shape) : 32;
	for (size_t i = 0; i < n; i++) {
		bool dash = dashes && shape[i] == '-';

		if (dash ? s[i] != '-' && s[i] != '_' : !isxdigit((unsigned char)s[i]))
			return false;
	}
	if (s[n] != '\0' && s[n] != '/' && strncmp(s + n, ".slice", 6) != 0)
		return false;
	for (size_t i = 0; i < n; i++)
		ret[i] = s[i] == '_' ? '-' : s[i];
	ret[n] = '\0';
	return true;
}

bool kubernetes_pod_uid(const char *cgroup, char ret[static POD_UID_MAX])
{
	const char *p = strstr(cgroup, "kubepods");

	/* "kubepods" itself holds "pod" too, hence what must stand before it. */
	for (p = p ? strstr(p, "pod") : NULL; p; p = strstr(p + 1, "pod"))
		if ((p[-1] == '/' || p[-1] == '-') && uid_at(p + 3, ret))
			return true;
	return false;
}

/* NAMESPACE_POD_UID: neither namespace nor pod may hold "_" (RFC 1123 names). */
static bool name_parse(const char *name, const char *uid, char **ret_namespace, char **ret_pod)
{
	const char *first = strchr(name, '_'), *second = first ? strchr(first + 1, '_') : NULL;
	_cleanup_free_ char *space = NULL, *pod = NULL;

	if (!second || first == name || second == first + 1 || strcmp(second + 1, uid) != 0)
		return false;
	space = strndup(name, (size_t)(first - name));
	pod = strndup(first + 1, (size_t)(second - first - 1));
	if (!space || !pod)
		return false;
	*ret_namespace = steal_ptr(space);
	*ret_pod = steal_ptr(pod);
	return true;
}

int kubernetes_pod_name(const char *uid, const char *const *log_roots, char **ret_namespace,
	char **ret_pod, struct err **err)
{
	for (const char *const *root = log_roots ? log_roots : node_log_roots; *root; root++) {
		_cleanup_(closedirp) DIR *dir = opendir(*root);
		struct dirent *entry;

		while (dir && (entry = readdir(dir)))
			if (name_parse(entry->d_name, uid, ret_namespace, ret_pod))
				return 0;
	}
	return err_set(err, ENOENT, "no folder of pod %s in the node's /var/log/pods", uid);
}
