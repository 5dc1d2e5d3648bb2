#include "instance/describe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "instance/instance.h"
#include "instance/kubernetes.h"
#include "instance/postmaster_file.h"
#include "instance/process_kind.h"
#include "kernel/cgroup.h"
#include "kernel/link.h"
#include "kernel/netns.h"
#include "kernel/root.h"

#define VERSION_MAX 64

/* A regular file in the postmaster's working directory. Never follows a link, never waits. */
static int data_file_read(pid_t pid, const char *name, size_t max, char **ret, struct err **err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	char path[64 + NAME_MAX];
	struct stat st;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/cwd/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s is no regular file", path);
	text = calloc(1, max + 1);
	if (!text)
		return err_errno(err, ENOMEM, "read %s", path);
	n = pread(fd, text, max, 0);
	if (n < 0)
		return err_errno(err, errno, "read %s", path);
	if (memchr(text, '\0', (size_t)n))
		return err_set(err, EINVAL, "%s is no text", path);
	*ret = steal_ptr(text);
	return 0;
}

static int postmaster_file_read(pid_t pid, struct postmaster_file *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	int r;

	r = data_file_read(pid, "postmaster.pid", POSTMASTER_FILE_MAX, &text, err);
	if (r < 0)
		return r;
	return postmaster_file_parse(text, ret, err);
}

/* Its pid in its own pid namespace: the last word of NSpid. */
static pid_t inner_pid(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	const char *last;

	if (proc_status_field(pid, "NSpid", &text, NULL) < 0)
		return 0;
	last = strrchr(text, '\t');
	return (pid_t)strtol(last ? last + 1 : text, NULL, 10);
}

bool instance_is_postmaster(pid_t pid)
{
	struct postmaster_file file;
	bool same;

	if (postmaster_file_read(pid, &file, NULL) < 0)
		return false;
	same = file.pid == inner_pid(pid);
	postmaster_file_done(&file);
	return same;
}

/* Bytes of a valid UTF-8 sequence at s that is no control character; 0 if it is none. */
static size_t utf8_length(const unsigned char *s)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 :
		s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;

	if (n == 1)
		return s[0] >= 0x20 && s[0] != 0x7f;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, beyond U+10FFFF. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

/* What goes out as JSON must be UTF-8, whatever an instance's owner called things. */
static char *printable(char *s)
{
	for (unsigned char *p = (unsigned char *)s; p && *p;) {
		size_t n = utf8_length(p);

		if (n == 0)
			*p = '?';
		p += n ? n : 1;
	}
	return s;
}

/* A name is typed, quoted and put in URLs: letters, digits and "._-" alone. */
static char *name_clean(char *s)
{
	for (char *p = s; p && *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		      (*p >= '0' && *p <= '9') || strchr("._-", *p)))
			*p = '-';
	return s;
}

/* The path as the process sees it, from the one that /proc shows us. */
static char *seen_from(const char *root, const char *path)
{
	size_t n = strlen(root);

	if (n > 1 && strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0'))
		path += n;
	return strdup(*path ? path : "/");
}

/* pg_wal, its links followed inside the process's root. */
static char *resolve_wal(pid_t pid, const char *pgdata)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX], *found;

	if (snprintf(path, sizeof(path), "%s/pg_wal", pgdata) >= (int)sizeof(path))
		return NULL;
	if (root_open(pid, path, O_PATH | O_DIRECTORY, &fd, NULL) < 0 || root_path_of(pid, fd, &found, NULL) < 0)
		return strdup(path);
	return found;
}

static int fill_paths(struct instance_info *i, struct err **err)
{
	_cleanup_free_ char *cwd = NULL, *root = NULL, *version = NULL;
	size_t n;
	int r;

	r = proc_read_link(i->pid, "cwd", &cwd, err);
	if (r >= 0)
		r = proc_read_link(i->pid, "root", &root, err);
	if (r < 0)
		return r;
	i->pgdata = seen_from(root, cwd);
	i->waldir = i->pgdata ? resolve_wal(i->pid, i->pgdata) : NULL;
	if (!i->pgdata || !i->waldir)
		return err_errno(err, ENOMEM, "name the data directory");
	printable(i->pgdata);
	printable(i->waldir);
	r = data_file_read(i->pid, "PG_VERSION", VERSION_MAX, &version, err);
	if (r < 0)
		return r;
	n = strspn(version, "0123456789.");
	if (n == 0)
		return err_set(err, ENOENT, "PG_VERSION holds no version");
	version[n] = '\0';
	i->version = steal_ptr(version);
	return 0;
}

struct host_name_call {
	int fd;
	char name[HOST_NAME_MAX + 1];
	bool done;
};

static void *host_name_thread(void *data)
{
	struct host_name_call *call = data;

	call->done = setns(call->fd, CLONE_NEWUTS) == 0 &&
		     gethostname(call->name, sizeof(call->name) - 1) == 0;
	return NULL;
}

/* The host name of its UTS namespace where that is not ours; NULL else. */
static char *own_host_name(pid_t pid)
{
	struct host_name_call call = {.fd = -1};
	_cleanup_close_ int fd = -1;
	uint64_t theirs, ours;
	pthread_t thread;
	char path[64];

	if (proc_namespace(pid, "uts", &theirs, NULL) < 0 ||
	    proc_namespace(getpid(), "uts", &ours, NULL) < 0 || theirs == ours)
		return NULL;
	snprintf(path, sizeof(path), "/proc/%d/ns/uts", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	call.fd = fd;
	if (fd < 0 || pthread_create(&thread, NULL, host_name_thread, &call) != 0)
		return NULL;
	pthread_join(thread, NULL);
	return call.done && call.name[0] ? name_clean(strdup(call.name)) : NULL;
}

/* "cluster_name=lab", also "cluster-name": dashes count as underscores there. */
static const char *cluster_setting(const char *s)
{
	static const char name[] = "cluster_name=";

	for (size_t i = 0; i < sizeof(name) - 1; i++)
		if (s[i] != name[i] && !(name[i] == '_' && s[i] == '-'))
			return NULL;
	return s + sizeof(name) - 1;
}

/* The last one on the command line counts. Caller frees. */
static char *cluster_of_command(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	const char *found = NULL;
	size_t length;

	if (proc_read_file(pid, "cmdline", 64UL << 10, &text, &length, NULL) < 0)
		return NULL;
	for (const char *arg = text; arg < text + length; arg += strlen(arg) + 1) {
		const char *value = NULL;

		if (strncmp(arg, "--", 2) == 0)
			value = cluster_setting(arg + 2);
		else if (strncmp(arg, "-c", 2) == 0 && arg[2])
			value = cluster_setting(arg + 2);
		else if (arg > text)
			value = cluster_setting(arg);
		if (value)
			found = value;
	}
	return found && *found ? strdup(found) : NULL;
}

static void fill_from_titles(struct instance_info *i, const struct candidate *all, size_t count)
{
	for (size_t k = 0; k < count; k++) {
		_cleanup_free_ char *title = NULL;
		const char *kind;

		if (all[k].stat.ppid != i->pid || proc_title(all[k].stat.id.pid, &title, NULL) < 0)
			continue;
		if (!i->cluster_name)
			process_title_cluster(title, &i->cluster_name);
		kind = instance_process_kind(title, i->cluster_name, NULL);
		if (!kind || strcmp(kind, "postmaster") == 0)
			continue;
		if (strcmp(kind, "startup") == 0 || strcmp(kind, "walreceiver") == 0)
			i->role = ROLE_REPLICA;
		else if (i->role == ROLE_UNKNOWN)
			i->role = ROLE_PRIMARY;
	}
}

/* A StatefulSet's pods are SET-NUMBER: what a pod's cluster is called while nobody else says it. */
static size_t pod_stem(const char *pod)
{
	const char *dash = strrchr(pod, '-');

	return dash && dash > pod && dash[1] && dash[1 + strspn(dash + 1, "0123456789")] == '\0' ?
		       (size_t)(dash - pod) : strlen(pod);
}

static void name_in_pod(struct instance_info *i, const char *uid)
{
	_cleanup_free_ char *own = i->cluster_name ? name_clean(strdup(i->cluster_name)) :
						     strndup(i->pod, pod_stem(i->pod));
	char id[CONTAINER_ID_MAX];

	i->pod_uid = strdup(uid);
	i->member = strdup(i->pod);
	if (kubernetes_container_id(i->cgroup, id))
		kubernetes_container_name(i->namespace, i->pod, uid, id, NULL, &i->container, NULL);
	if (asprintf(&i->name, "%s/%s", i->namespace, i->pod) < 0)
		i->name = NULL;
	if (!own || asprintf(&i->cluster, "%s/%s", i->namespace, own) < 0)
		i->cluster = NULL;
}

static int fill_names(struct instance_info *i, const struct candidate *all, size_t count,
	struct err **err)
{
	char uid[POD_UID_MAX];

	i->cluster_name = printable(cluster_of_command(i->pid));
	fill_from_titles(i, all, count);
	if (kubernetes_pod_uid(i->cgroup, uid) &&
	    kubernetes_pod_name(uid, NULL, &i->namespace, &i->pod, NULL) == 0) {
		name_clean(i->namespace);
		name_clean(i->pod);
		name_in_pod(i, uid);
	} else {
		i->cluster = name_clean(strdup(i->cluster_name ? i->cluster_name : "postgres"));
		i->member = own_host_name(i->pid);
		if (!i->member && asprintf(&i->member, "%u", i->port) < 0)
			i->member = NULL;
		if (asprintf(&i->name, "%s/%s", i->cluster, i->member ? i->member : "") < 0)
			i->name = NULL;
	}
	if (!i->cluster || !i->member || !i->name)
		return err_errno(err, ENOMEM, "name an instance");
	return 0;
}

/* Of all listen addresses the lock file keeps the first; a wildcard answers on the loopback. */
static const char *loopback_of(const char *listen)
{
	if (!listen || strcmp(listen, "*") == 0 || strcmp(listen, "0.0.0.0") == 0 ||
	    strcmp(listen, "localhost") == 0)
		return "127.0.0.1";
	return strcmp(listen, "::") == 0 ? "::1" : listen;
}

static int fill_network(struct instance_info *i, const struct postmaster_file *file,
	struct err **err)
{
	_cleanup_close_ int fd = -1;
	uint64_t ours;
	int r;

	r = netns_open(i->pid, &fd, err);
	if (r >= 0)
		r = netns_inode(fd, &i->netns, err);
	if (r >= 0)
		r = netns_own_inode(&ours, err);
	if (r < 0)
		return r;
	i->host_network = i->netns == ours;
	i->port = file->port;
	i->socket_dir = file->socket_dir ? printable(strdup(file->socket_dir)) : NULL;
	if (!i->host_network) {
		_cleanup_err_ struct err *why = NULL;

		r = link_addresses(fd, &i->addresses, &why);
		if (r >= 0)
			return 0;
		/* Without CAP_SYS_ADMIN nobody looks in; what needs no network works all the same. */
		if (r == -EPERM)
			i->addresses = calloc(1, sizeof(char *));
		return i->addresses ? 0 : err_set(err, r, "%s", err_text(why));
	}
	strv_push(&i->addresses, printable(strdup(loopback_of(file->listen_address))));
	return 0;
}

int instance_describe(const struct candidate *postmaster, const struct candidate *all, size_t count,
	struct instance_info **ret, struct err **err)
{
	_cleanup_(instance_info_freep) struct instance_info *i = calloc(1, sizeof(*i));
	struct postmaster_file file;
	int r;

	if (!i)
		return err_errno(err, ENOMEM, "describe an instance");
	i->pid = postmaster->stat.id.pid;
	i->start_ticks = postmaster->stat.id.start_ticks;
	r = postmaster_file_read(i->pid, &file, err);
	if (r < 0)
		return r;
	r = file.pid == inner_pid(i->pid) ?
		    0 : err_set(err, ENOENT, "postmaster.pid does not name process %d", i->pid);
	if (r >= 0)
		r = cgroup_of(i->pid, &i->cgroup, err);
	if (r >= 0)
		r = fill_paths(i, err);
	if (r >= 0)
		r = fill_network(i, &file, err);
	postmaster_file_done(&file);
	if (r >= 0)
		printable(i->cgroup);
	if (r >= 0)
		r = fill_names(i, all, count, err);
	/* Its pid may have been another's for a part of all this. */
	if (r >= 0 && !proc_is_alive(&postmaster->stat.id))
		r = err_set(err, ESRCH, "process %d went away", i->pid);
	if (r < 0)
		return r;
	*ret = steal_ptr(i);
	return 0;
}
