#include "instance/kubernetes.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"

#define ID_DIGITS (CONTAINER_ID_MAX - 1)

static const char *const pod_log_roots[] = {"/var/log/pods", "/proc/1/root/var/log/pods", NULL};
static const char *const node_log_roots[] = {"/var/log", "/proc/1/root/var/log", NULL};

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

	if (!p && strncmp(cgroup, "/../", 4) == 0)
		p = cgroup;
	/* "kubepods" itself holds "pod" too, hence what must stand before it. */
	for (p = p ? strstr(p, "pod") : NULL; p; p = strstr(p + 1, "pod"))
		if ((p[-1] == '/' || p[-1] == '-') && uid_at(p + 3, ret))
			return true;
	return false;
}

bool kubernetes_container_id(const char *cgroup, char ret[static CONTAINER_ID_MAX])
{
	bool found = false;

	/* The last one: kind's nodes are containers themselves. What lies below is the container's own. */
	for (const char *p = cgroup; *p;) {
		size_t n = strspn(p, "0123456789abcdef");

		if (n == ID_DIGITS && p > cgroup && strchr("/-:", p[-1]) &&
		    (p[n] == '\0' || p[n] == '/' || strncmp(p + n, ".scope", 6) == 0)) {
			memcpy(ret, p, n);
			ret[n] = '\0';
			found = true;
		}
		p += n ? n : 1;
	}
	return found;
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
	for (const char *const *root = log_roots ? log_roots : pod_log_roots; *root; root++) {
		_cleanup_(closedirp) DIR *dir = opendir(*root);
		struct dirent *entry;

		while (dir && (entry = readdir(dir)))
			if (name_parse(entry->d_name, uid, ret_namespace, ret_pod))
				return 0;
	}
	return err_set(err, ENOENT, "no folder of pod %s in the node's /var/log/pods", uid);
}

/* POD_NAMESPACE_CONTAINER-ID.log: a container's name is an RFC 1123 label, so without "_". */
static char *link_container(const char *name, const char *prefix, const char *id)
{
	size_t before = strlen(prefix), length = strlen(name), tail = 1 + strlen(id) + strlen(".log");

	if (length <= before + tail || strncmp(name, prefix, before) != 0 ||
	    name[length - tail] != '-' || strncmp(name + length - tail + 1, id, strlen(id)) != 0 ||
	    strcmp(name + length - strlen(".log"), ".log") != 0)
		return NULL;
	return strndup(name + before, length - before - tail);
}

static char *container_by_link(const char *root, const char *namespace, const char *pod, const char *id)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	_cleanup_free_ char *prefix = NULL;
	char path[PATH_MAX], *found = NULL;
	struct dirent *entry;

	if (asprintf(&prefix, "%s_%s_", pod, namespace) < 0) {
		prefix = NULL;
		return NULL;
	}
	snprintf(path, sizeof(path), "%s/containers", root);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir)))
		found = link_container(entry->d_name, prefix, id);
	return found;
}

/* Is one of the logs in this folder a link to one whose name has the id? */
static bool logs_name(int parent, const char *name, const char *id)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	char target[PATH_MAX];

	while (dir && (entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		if (strstr(target, id))
			return true;
	}
	return false;
}

static char *container_by_folder(const char *root, const char *namespace, const char *pod,
	const char *uid, const char *id)
{
	_cleanup_free_ char *path = NULL, *only = NULL;
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *entry;
	unsigned count = 0;

	if (asprintf(&path, "%s/pods/%s_%s_%s", root, namespace, pod, uid) < 0) {
		path = NULL;
		return NULL;
	}
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (logs_name(dirfd(dir), entry->d_name, id))
			return strdup(entry->d_name);
		free(only);
		only = strdup(entry->d_name);
		count++;
	}
	return count == 1 ? steal_ptr(only) : NULL;
}

int kubernetes_container_name(const char *namespace, const char *pod, const char *uid, const char *id,
	const char *const *log_roots, char **ret, struct err **err)
{
	for (const char *const *root = log_roots ? log_roots : node_log_roots; *root; root++) {
		char *name = container_by_link(*root, namespace, pod, id);

		if (!name)
			name = container_by_folder(*root, namespace, pod, uid, id);
		if (name) {
			*ret = name;
			return 0;
		}
	}
	return err_set(err, ENOENT, "no log of container %.12s of pod %s/%s tells its name", id, namespace,
		pod);
}
