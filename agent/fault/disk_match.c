#include "fault/disk_match.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "instance/process_kind.h"
#include "kernel/root.h"

#define OPEN_FLAGS    (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
#define ANCESTORS_MAX 16
#define LINKS_MAX     1024
#define TREE_KNOWN_NS NS_PER_S
/* A title changes with each statement. */
#define TITLE_KNOWN_NS (5 * NS_PER_MS)
/* MKDEV() of include/linux/kdev_t.h. */
#define KERNEL_MINOR_BITS 20

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

void disk_areas_close(struct disk_areas *a)
{
	for (size_t i = 0; i < a->count; i++) {
		closep(&a->list[i].fd);
		a->list[i].fd = -1;
	}
}

void disk_areas_done(struct disk_areas *a)
{
	disk_areas_close(a);
	for (size_t i = 0; i < a->count; i++) {
		free(a->list[i].path);
		free(a->list[i].name);
	}
	a->count = 0;
}

static int area_path(int fd, char **ret)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	*ret = strdup(path);
	return *ret ? 0 : -ENOMEM;
}

/* Takes the descriptor. */
static int area_add(struct disk_areas *a, enum disk_class class, const char *name, int fd,
	struct err **err)
{
	_cleanup_close_ int own = fd;
	struct disk_area *area = &a->list[a->count];
	_cleanup_free_ char *path = NULL;
	struct statfs f;
	struct statx s;
	int r;

	if (a->count == DISK_AREAS_MAX)
		return err_set(err, E2BIG, "more than %d tablespaces", DISK_AREAS_MAX - 2);
	r = area_path(own, &path);
	if (r < 0)
		return err_errno(err, r, "resolve %s", name);
	if (fstatfs(own, &f) < 0 ||
	    statx(own, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &s) < 0)
		return err_errno(err, errno, "look at %s", path);
	*area = (struct disk_area){
		.class = class,
		.name = strdup(name),
		.device = f.f_type == BTRFS_SUPER_MAGIC ? 0 :
			(uint64_t)s.stx_dev_major << KERNEL_MINOR_BITS | s.stx_dev_minor,
		.inode = s.stx_ino,
		.mount = s.stx_mnt_id,
	};
	if (!area->name)
		return err_errno(err, ENOMEM, "resolve %s", name);
	area->path = steal_ptr(path);
	area->fd = steal_fd(&own);
	a->count++;
	return 0;
}

/* A directory of PGDATA, through whatever links, but never out of the process's root. */
static int open_below(pid_t pid, const char *pgdata, const char *name, int *ret_fd, struct err **err)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", pgdata, name) >= (int)sizeof(path))
		return err_errno(err, ENAMETOOLONG, "open %s", name);
	return root_open(pid, path, OPEN_FLAGS, ret_fd, err);
}

static int tablespaces_open(struct disk_areas *a, pid_t pid, const char *pgdata, struct err **err)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	const struct dirent *e;
	unsigned looked_at = 0;
	int fd, r;

	if (open_below(pid, pgdata, "pg_tblspc", &fd, NULL) < 0)
		return 0;
	dir = fdopendir(fd);
	if (!dir) {
		closep(&fd);
		return err_errno(err, ENOMEM, "list tablespaces");
	}
	while ((e = readdir(dir))) {
		char name[sizeof(e->d_name) + 16];

		if (e->d_name[0] < '0' || e->d_name[0] > '9')
			continue;
		if (++looked_at > LINKS_MAX)
			return err_set(err, E2BIG, "more than %d entries in pg_tblspc", LINKS_MAX);
		snprintf(name, sizeof(name), "pg_tblspc/%s", e->d_name);
		/* A dangling link is no place where files are. */
		if (open_below(pid, pgdata, name, &fd, NULL) < 0)
			continue;
		r = area_add(a, DISK_TABLESPACE, name, fd, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int areas_fill(struct disk_areas *a, pid_t pid, struct err **err)
{
	_cleanup_free_ char *pgdata = NULL;
	char path[64];
	int fd, r;

	snprintf(path, sizeof(path), "/proc/%d/cwd", pid);
	fd = open(path, OPEN_FLAGS);
	if (fd < 0)
		return err_errno(err, errno, "open the data directory of process %d", pid);
	r = root_path_of(pid, fd, &pgdata, err);
	if (r < 0) {
		closep(&fd);
		return r;
	}
	r = area_add(a, DISK_DATA, "", fd, err);
	if (r >= 0)
		r = open_below(pid, pgdata, "pg_wal", &fd, err);
	if (r >= 0)
		r = area_add(a, DISK_WAL, "pg_wal", fd, err);
	return r < 0 ? r : tablespaces_open(a, pid, pgdata, err);
}

int disk_areas_open(const struct proc_id *postmaster, struct disk_areas *ret, struct err **err)
{
	struct disk_areas a = {.count = 0};
	int r;

	if (!proc_is_alive(postmaster))
		return err_set(err, ESTALE, "postmaster %d is gone", postmaster->pid);
	r = areas_fill(&a, postmaster->pid, err);
	if (r >= 0 && !proc_is_alive(postmaster))
		r = err_set(err, ESTALE, "postmaster %d is gone", postmaster->pid);
	if (r < 0) {
		disk_areas_done(&a);
		return r;
	}
	*ret = a;
	return 0;
}

size_t disk_areas_mounts(const struct disk_areas *a, int ret_fds[DISK_AREAS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < a->count; i++) {
		size_t k = 0;

		while (k < i && a->list[k].mount != a->list[i].mount)
			k++;
		if (k == i)
			ret_fds[n++] = a->list[i].fd;
	}
	return n;
}

/* Sorts and hashes spill into pgsql_tmp/; a session's temporary tables are tBACKEND_FILE. */
static bool is_temporary(const char *name)
{
	const char *file = strrchr(name, '/');
	int n = 0;

	if (strstr(name, "/pgsql_tmp"))
		return true;
	return file && sscanf(file, "/t%*u_%*u%n", &n) == 0 && n > 0;
}

bool disk_areas_classify(const struct disk_areas *a, const char *path, enum disk_class *ret,
	char *buf)
{
	const struct disk_area *best = NULL;
	size_t best_length = 0;

	for (size_t i = 0; i < a->count; i++) {
		size_t n = strlen(a->list[i].path);

		if (n >= best_length && strncmp(path, a->list[i].path, n) == 0 &&
		    (path[n] == '/' || path[n] == '\0')) {
			best = &a->list[i];
			best_length = n;
		}
	}
	if (!best)
		return false;
	if (snprintf(buf, PATH_MAX, "%s%s", best->name,
		    path + best_length + (*best->name == '\0' && path[best_length] == '/')) >= PATH_MAX)
		return false;
	*ret = best->class;
	if (best->class == DISK_DATA && strncmp(buf, "pg_tblspc/", 10) == 0)
		*ret = DISK_TABLESPACE;
	if (*ret != DISK_WAL && is_temporary(buf))
		*ret = DISK_TEMP;
	return true;
}

int disk_match_init(struct disk_match *m, const struct instance_info *i, const struct params *p,
	struct err **err)
{
	struct disk_match n = {
		.postmaster = {i->pid, i->start_ticks},
		.paths = params_texts(p, "paths"),
		.titles = params_texts(p, "titles"),
	};
	enum disk_class c;
	int r;

	for (size_t k = 0; n.paths && n.paths[k]; k++) {
		if (disk_class_from_string(n.paths[k], &c) == 0)
			n.classes |= 1U << c;
		else
			n.globs = true;
	}
	if (!n.paths || !n.paths[0]) {
		n.paths = NULL;
		n.classes = (1U << DISK_CLASS_MAX) - 1;
	}
	if (n.titles && !n.titles[0])
		n.titles = NULL;
	r = disk_areas_open(&n.postmaster, &n.areas, err);
	if (r < 0)
		return r;
	n.cluster = i->cluster_name ? strdup(i->cluster_name) : NULL;
	*m = n;
	return 0;
}

void disk_match_done(struct disk_match *m)
{
	disk_areas_done(&m->areas);
	free(m->cluster);
	m->cluster = NULL;
}

bool disk_match_path(const struct disk_match *m, const char *path, enum disk_class *ret)
{
	char name[PATH_MAX];
	enum disk_class c;

	if (!disk_areas_classify(&m->areas, path, &c, name))
		return false;
	*ret = c;
	if (m->classes & 1U << c)
		return true;
	for (size_t i = 0; m->globs && m->paths[i]; i++)
		if (fnmatch(m->paths[i], name, 0) == 0)
			return true;
	return false;
}

bool disk_filter_path(void *filter, const char *path, enum disk_class *ret)
{
	const struct disk_filter *f = filter;

	return disk_match_path(f->match, path, ret);
}

static bool is_in_tree(const struct disk_match *m, pid_t pid)
{
	struct proc_stat s;

	for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
		if (proc_read_stat(pid, &s, NULL) < 0)
			return false;
		if (pid == m->postmaster.pid)
			return s.id.start_ticks == m->postmaster.start_ticks;
		pid = s.ppid;
	}
	return false;
}

/* As proc_choose_titles() has it: the postmaster only by its own name. */
static bool is_named(const struct disk_match *m, pid_t pid)
{
	_cleanup_free_ char *title = NULL;

	if (proc_title(pid, &title, NULL) < 0 || !process_title_matches(title, m->cluster, m->titles))
		return false;
	return pid == m->postmaster.pid || process_title_rest(title, m->cluster);
}

bool disk_filter_process(void *filter, pid_t tid)
{
	struct disk_filter *f = filter;
	struct disk_known *k = &f->known[(unsigned)tid % DISK_KNOWN_MAX];
	uint64_t now = now_ns();

	if (k->tid == tid && now < k->until_ns)
		return k->matches;
	k->tid = tid;
	k->matches = is_in_tree(f->match, tid) && (!f->match->titles || is_named(f->match, tid));
	k->until_ns = now + (f->match->titles ? TITLE_KNOWN_NS : TREE_KNOWN_NS);
	return k->matches;
}
