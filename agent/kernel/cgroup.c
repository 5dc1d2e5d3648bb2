#include "kernel/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"

#define DEPTH_MAX     32
#define PROCESSES_MAX (1UL << 20)

/* One mounted hierarchy: where, and which group is its root there (mountinfo's field 4). */
struct hierarchy {
	char *mount, *root;
};

static void hierarchy_done(struct hierarchy *h)
{
	free(h->mount);
	free(h->root);
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Is `word` one of a comma-separated list? */
static bool list_has(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; p; p = strchr(p, ','), p = p ? p + 1 : NULL)
		if (strncmp(p, word, n) == 0 && (p[n] == ',' || p[n] == '\0'))
			return true;
	return false;
}

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*out++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

/* controller NULL: the v2 hierarchy; else the v1 one with that controller or name. */
static bool mount_matches(const char *type, const char *options, const char *controller)
{
	if (!controller)
		return strcmp(type, "cgroup2") == 0;
	return strcmp(type, "cgroup") == 0 && list_has(options, controller);
}

static int hierarchy_find(const char *controller, struct hierarchy *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	char *line, *next;
	size_t length;
	int r;

	r = proc_read_file(getpid(), "mountinfo", 4UL << 20, &text, &length, err);
	if (r < 0)
		return r;
	for (line = text; line && *line; line = next) {
		char *root = NULL, *mount = NULL, *type = NULL, *options = NULL, *save = NULL;
		char *tail;
		int field = 0;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		tail = strstr(line, " - ");
		if (!tail)
			continue;
		*tail = '\0';
		for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
			field++;
			root = field == 4 ? w : root;
			mount = field == 5 ? w : mount;
		}
		type = strtok_r(tail + 3, " ", &save);
		if (type && strtok_r(NULL, " ", &save))
			options = strtok_r(NULL, " ", &save);
		if (!root || !mount || !options || !mount_matches(type, options, controller))
			continue;
		unescape(root);
		unescape(mount);
		ret->mount = strdup(mount);
		ret->root = strdup(root);
		if (!ret->mount || !ret->root) {
			hierarchy_done(ret);
			return err_errno(err, ENOMEM, "find the control groups");
		}
		return 0;
	}
	return err_set(err, EOPNOTSUPP, "no cgroup %s hierarchy is mounted",
		controller ? controller : "v2");
}

/* The folder of a group. A ".." shows a group outside of our cgroup namespace. */
int cgroup_folder(const char *controller, const char *path, char **ret, struct err **err)
{
	_cleanup_(hierarchy_done) struct hierarchy h = {0};
	const char *below = path;
	size_t n;
	int r;

	if (path[0] != '/')
		return err_set(err, EINVAL, "\"%s\" is no control group: it must begin with /", path);
	if (strstr(path, "/../") || strcmp(path, "/..") == 0 ||
	    (strlen(path) > 3 && strcmp(path + strlen(path) - 3, "/..") == 0))
		return err_set(err, EOPNOTSUPP,
			"control group %s lies outside of the agent's cgroup namespace", path);
	r = hierarchy_find(controller, &h, err);
	if (r < 0)
		return r;
	n = strlen(h.root);
	if (n > 1) {
		if (strncmp(path, h.root, n) != 0 || (path[n] != '/' && path[n] != '\0'))
			return err_set(err, EOPNOTSUPP,
				"control group %s is not below %s, all that %s shows", path, h.root,
				h.mount);
		below = path + n;
	}
	if (asprintf(ret, "%s%s", h.mount, strcmp(below, "/") == 0 ? "" : below) < 0)
		return err_errno(err, ENOMEM, "name a control group");
	return 0;
}

/* The path after "ID:controllers:" where the controllers are the wanted ones ("" is v2). */
static const char *group_line(const char *text, const char *controller, size_t *ret_length)
{
	for (const char *line = text; line && *line;) {
		const char *end = strchrnul(line, '\n'), *first = memchr(line, ':', (size_t)(end - line));
		const char *second = first ? memchr(first + 1, ':', (size_t)(end - first - 1)) : NULL;

		if (second) {
			char names[256] = "";
			size_t n = (size_t)(second - first - 1);

			if (n < sizeof(names))
				memcpy(names, first + 1, n);
			if (controller[0] ? list_has(names, controller) : n == 0) {
				*ret_length = (size_t)(end - second - 1);
				return second + 1;
			}
		}
		line = *end ? end + 1 : end;
	}
	return NULL;
}

int cgroup_enter_node(struct err **err)
{
	_cleanup_close_ int fd = open("/proc/1/ns/cgroup", O_RDONLY | O_CLOEXEC);
	uint64_t ours, node;
	int r;

	if (fd < 0)
		return err_errno(err, errno, "open /proc/1/ns/cgroup");
	r = proc_namespace(getpid(), "cgroup", &ours, err);
	if (r >= 0)
		r = proc_namespace(1, "cgroup", &node, err);
	if (r < 0 || ours == node)
		return r;
	if (setns(fd, CLONE_NEWCGROUP) < 0)
		return err_errno(err, errno, "enter the node's cgroup namespace");
	return 1;
}

int cgroup_of(pid_t pid, char **ret, struct err **err)
{
	/* On a host with v1 alone there is still a "0::/" line, of a v2 that nobody mounted. */
	static const char *const order[] = {"", "freezer", "name=systemd"};
	_cleanup_free_ char *text = NULL;
	size_t length;
	int r;

	r = proc_read_file(pid, "cgroup", 64UL << 10, &text, &length, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ELEMENTS(order); i++) {
		_cleanup_(hierarchy_done) struct hierarchy h = {0};
		const char *path = group_line(text, order[i], &length);

		if (!path || path[0] != '/')
			continue;
		if (hierarchy_find(order[i][0] ? order[i] : NULL, &h, NULL) < 0)
			continue;
		*ret = strndup(path, length);
		return *ret ? 0 : err_errno(err, ENOMEM, "name a control group");
	}
	return err_set(err, EOPNOTSUPP, "process %d is in no control group that is mounted here", pid);
}

int cgroup_of_controller(pid_t pid, const char *controller, char **ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	const char *path;
	size_t length;
	int r;

	r = proc_read_file(pid, "cgroup", 64UL << 10, &text, &length, err);
	if (r < 0)
		return r;
	path = group_line(text, controller ? controller : "", &length);
	if (!path || path[0] != '/')
		return err_set(err, EOPNOTSUPP, "process %d is in no cgroup %s hierarchy", pid,
			controller ? controller : "v2");
	*ret = strndup(path, length);
	return *ret ? 0 : err_errno(err, ENOMEM, "name a control group");
}

struct id_list {
	struct proc_id *ids;
	size_t count, room;
};

static int id_list_add(struct id_list *l, pid_t pid, struct err **err)
{
	struct proc_id id;

	/* 0: a process of a pid namespace that we do not see. */
	if (pid <= 0 || proc_identify(pid, &id, NULL) < 0)
		return 0;
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 64;
		struct proc_id *more = reallocarray(l->ids, room, sizeof(*more));

		if (!more || room > PROCESSES_MAX)
			return err_errno(err, ENOMEM, "list the processes of a control group");
		l->ids = more;
		l->room = room;
	}
	l->ids[l->count++] = id;
	return 0;
}

static int folder_processes(int folder_fd, struct id_list *list, unsigned depth, struct err **err)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	_cleanup_fclose_ FILE *f = NULL;
	struct dirent *entry;
	long pid;
	int fd, r;

	fd = openat(folder_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	f = fd >= 0 ? fdopen(fd, "r") : NULL;
	/* A threaded child group cannot be read (EOPNOTSUPP): its domain lists its processes. */
	while (f && fscanf(f, "%ld", &pid) == 1) {
		r = id_list_add(list, (pid_t)pid, err);
		if (r < 0)
			return r;
	}
	fd = depth < DEPTH_MAX ? openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	while (dir && (entry = readdir(dir))) {
		_cleanup_close_ int child = -1;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		child = openat(folder_fd, entry->d_name,
			O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (child < 0)
			continue;
		r = folder_processes(child, list, depth + 1, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The hierarchy that cgroup_of() names groups of. */
static int named_folder(const char *path, char **ret, struct err **err)
{
	int r = cgroup_folder(NULL, path, ret, err);

	if (r == -EOPNOTSUPP)
		r = cgroup_folder("freezer", path, ret, err);
	if (r == -EOPNOTSUPP)
		r = cgroup_folder("name=systemd", path, ret, err);
	return r;
}

int cgroup_folder_processes(const char *folder, struct proc_id **ret, size_t *ret_count,
	struct err **err)
{
	_cleanup_close_ int fd = -1;
	struct id_list list = {0};
	int r;

	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open control group %s", folder);
	r = folder_processes(fd, &list, 0, err);
	if (r < 0) {
		free(list.ids);
		return r;
	}
	*ret = list.ids;
	*ret_count = list.count;
	return 0;
}

int cgroup_processes(const char *path, struct proc_id **ret, size_t *ret_count, struct err **err)
{
	_cleanup_free_ char *folder = NULL;
	int r;

	r = named_folder(path, &folder, err);
	return r < 0 ? r : cgroup_folder_processes(folder, ret, ret_count, err);
}
