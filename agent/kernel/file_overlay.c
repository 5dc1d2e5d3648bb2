#include "kernel/file_overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/mountinfo.h"
#include "kernel/proc.h"
#include "kernel/root.h"
#include "kernel/thread.h"

#define FILE_NAME   "file"
#define REMOVALS    16		/* of one namespace: a bound, there is one */

struct making {
	const struct overlay_file *file;
	int mount, watch;
	dev_t dev;
};

static int open_tmpfs(const char *source, int *ret_fd, struct err **err)
{
	_cleanup_close_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0)
		return err_errno(err, errno, "fsopen(2) of a tmpfs (Linux 5.2)");
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", "2m", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_errno(err, errno, "make a tmpfs");
	fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "fsmount(2)");
	*ret_fd = fd;
	return 0;
}

static int write_file(int dir, struct making *m, struct err **err)
{
	const struct overlay_file *f = m->file;
	_cleanup_close_ int fd = -1;
	size_t done = 0;
	struct stat st;
	ssize_t n = 0;

	fd = openat(dir, FILE_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "make a file");
	while (done < f->length && (n = write(fd, f->text + done, f->length - done)) > 0)
		done += (size_t)n;
	if (done < f->length)
		return err_errno(err, n < 0 ? errno : ENOSPC, "write a file");
	/* A confined process reads only what has the label of its own files. */
	if (f->label && fsetxattr(fd, "security.selinux", f->label, strlen(f->label) + 1, 0) < 0)
		return err_errno(err, errno, "give a file the SELinux label %s", f->label);
	if (fchown(fd, f->uid, f->gid) < 0 || fchmod(fd, f->mode) < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "give a file its owner and mode");
	m->dev = st.st_dev;
	return 0;
}

static int watch_file(int dir, int *ret_fd, struct err **err)
{
	_cleanup_close_ int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/" FILE_NAME, dir);
	/* Equal events in a row are told once: the closing keeps two openings apart. */
	if (fd < 0 || inotify_add_watch(fd, path, IN_OPEN | IN_CLOSE_NOWRITE) < 0)
		return err_errno(err, errno, "watch a file");
	*ret_fd = steal_fd(&fd);
	return 0;
}

/*
 * In a thread with a mount namespace of its own: the kernel clones one file of a mount only where the
 * mount is attached in the caller's namespace (from Linux 6.15 on also where it is not). The clone
 * outlives the namespace in its descriptor.
 */
static int make_clone(void *data, struct err **err)
{
	struct making *m = data;
	_cleanup_close_ int dir = -1;
	int r;

	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(err, errno, "make a mount namespace (needs CAP_SYS_ADMIN)");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(err, errno, "make the mounts private");
	r = open_tmpfs(m->file->source, &dir, err);
	if (r >= 0)
		r = write_file(dir, m, err);
	if (r >= 0)
		r = watch_file(dir, &m->watch, err);
	if (r < 0)
		return r;
	if (move_mount(dir, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(err, errno, "move_mount(2)");
	m->mount = open_tree(dir, FILE_NAME, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return m->mount < 0 ? err_errno(err, errno, "open_tree(2)") : 0;
}

int file_overlay_new(const struct overlay_file *file, int *ret_mount, int *ret_watch, dev_t *ret_dev,
	struct err **err)
{
	struct making m = {.file = file, .mount = -1, .watch = -1};
	int r;

	r = thread_run(make_clone, &m, err);
	if (r < 0) {
		closep(&m.mount);
		closep(&m.watch);
		return r;
	}
	*ret_mount = m.mount;
	*ret_watch = m.watch;
	*ret_dev = m.dev;
	return 0;
}

uint64_t file_overlay_opened(int watch_fd)
{
	_Alignas(struct inotify_event) char buffer[4096];
	uint64_t count = 0;
	ssize_t n;

	while ((n = read(watch_fd, buffer, sizeof(buffer))) > 0) {
		for (char *p = buffer; p < buffer + n;) {
			const struct inotify_event *e = (const void *)p;

			count += (e->mask & IN_OPEN) != 0;
			p += sizeof(*e) + e->len;
		}
	}
	return count;
}

int file_overlay_check(pid_t pid, int file_fd, struct err **err)
{
	_cleanup_(mount_entry_done) struct mount_entry m = {0};
	uint64_t theirs, ours, first, id;
	int r;

	r = proc_namespace(pid, "mnt", &theirs, err);
	if (r >= 0)
		r = proc_namespace(getpid(), "mnt", &ours, err);
	if (r < 0)
		return r;
	if (theirs == ours || (proc_namespace(1, "mnt", &first, NULL) >= 0 && theirs == first))
		return err_set(err, EPERM,
			"it is in the node's own mount namespace: another file there would be seen by "
			"every process of the node");
	r = mount_of(file_fd, &id, err);
	if (r >= 0)
		r = mount_find(pid, id, &m, err);
	if (r < 0)
		return r;
	return m.shared ? err_set(err, EPERM,
		"the mount at %s is shared: what is mounted there appears in other mount namespaces too",
		m.point) : 0;
}

struct entering {
	int ns, file, mount;	/* file: what is mounted over, or what is to be unmounted */
	int fds;		/* /proc/self/fd, which the other namespace need not have */
};

static int enter(int ns, struct err **err)
{
	if (unshare(CLONE_FS) < 0 || setns(ns, CLONE_NEWNS) < 0)
		return err_errno(err, errno,
			"enter a mount namespace (needs CAP_SYS_ADMIN and CAP_SYS_CHROOT)");
	return 0;
}

static int put_inside(void *data, struct err **err)
{
	const struct entering *e = data;
	int r = enter(e->ns, err);

	if (r < 0)
		return r;
	if (move_mount(e->mount, "", e->file, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_errno(err, errno, "move_mount(2)");
	return 0;
}

static int open_ns(pid_t pid, int *ret_fd, struct err **err)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno == ENOENT ? ESRCH : errno, "open %s", path);
	*ret_fd = fd;
	return 0;
}

int file_overlay_put(pid_t pid, int file_fd, int mount_fd, struct err **err)
{
	_cleanup_close_ int ns = -1;
	struct entering e;
	int r;

	r = file_overlay_check(pid, file_fd, err);
	if (r >= 0)
		r = open_ns(pid, &ns, err);
	if (r < 0)
		return r;
	e = (struct entering){.ns = ns, .file = file_fd, .mount = mount_fd, .fds = -1};
	return thread_run(put_inside, &e, err);
}

/* By descriptor: exactly this mount, whatever is over or below it. */
static int unmount_inside(void *data, struct err **err)
{
	const struct entering *e = data;
	char name[16];
	int r = enter(e->ns, err);

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%d", e->file);
	if (fchdir(e->fds) < 0 || umount2(name, MNT_DETACH) < 0)
		return err_errno(err, errno, "unmount");
	return 0;
}

/* The top of what is mounted there, if that is it. */
static int open_ours(pid_t pid, const struct mount_entry *m, int *ret_fd, struct err **err)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	uint64_t id;
	int r;

	r = root_open(pid, m->point, O_PATH | O_NOFOLLOW, &fd, err);
	if (r >= 0)
		r = mount_of(fd, &id, err);
	if (r < 0)
		return r;
	if (id != m->id || fstat(fd, &st) < 0 || st.st_dev != m->dev)
		return err_set(err, EBUSY, "%s: something else is mounted over what pgjolt mounted", m->point);
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int unmount(pid_t pid, const struct mount_entry *m, struct err **err)
{
	_cleanup_close_ int ns = -1, file = -1, fds = -1;
	struct entering e;
	int r;

	r = open_ours(pid, m, &file, err);
	if (r >= 0)
		r = open_ns(pid, &ns, err);
	if (r < 0)
		return r;
	fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fds < 0)
		return err_errno(err, errno, "open /proc/self/fd");
	e = (struct entering){.ns = ns, .file = file, .mount = -1, .fds = fds};
	return thread_run(unmount_inside, &e, err);
}

struct search {
	const char *source;
	uint64_t home;		/* the mount namespace that it was put into */
};

static int remove_from(pid_t pid, const struct search *s, struct err **err)
{
	for (int i = 0; i < REMOVALS; i++) {
		_cleanup_(mount_entry_done) struct mount_entry m = {0};
		_cleanup_err_ struct err *why = NULL;
		int r = mount_find_source(pid, s->source, &m, &why);

		if (r == -ENOENT)
			return 0;
		if (r >= 0)
			r = unmount(pid, &m, &why);
		if (r < 0)
			return err_set(err, r, "%s", err_text(why));
	}
	return err_set(err, EBUSY, "%s is mounted again and again", s->source);
}

struct place {
	uint64_t ns;
	dev_t dev;
	ino_t inode;
};

static int by_place(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct place));
}

/* mountinfo shows what is below a process's root, so a root of its own counts as a place, too. What a
 * server that does not answer has to say of it is not waited for. */
static bool place_of(pid_t pid, struct place *ret)
{
	char path[64];
	struct statx st;

	memset(ret, 0, sizeof(*ret));
	snprintf(path, sizeof(path), "/proc/%d/root", (int)pid);
	if (proc_namespace(pid, "mnt", &ret->ns, NULL) < 0 ||
	    statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, &st) < 0)
		return false;
	ret->dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	ret->inode = st.stx_ino;
	return true;
}

static bool is_still_at(pid_t pid, const struct place *p)
{
	struct place now;

	return place_of(pid, &now) && by_place(&now, p) == 0;
}

/*
 * A mount namespace that another user namespace than ours owns, so that anybody may have made it: what
 * was copied into it is locked (mount_namespaces(7)), and what else is there may be made up.
 */
static bool is_sandbox(pid_t pid)
{
	_cleanup_close_ int ns = -1, owner = -1;
	struct stat st;
	uint64_t ours;

	if (open_ns(pid, &ns, NULL) < 0 || proc_namespace(getpid(), "user", &ours, NULL) < 0)
		return false;
	owner = ioctl(ns, NS_GET_USERNS);
	return owner >= 0 && fstat(owner, &st) == 0 && st.st_ino != ours;
}

/* One place's failure does not keep the others from being looked at. */
static int look_at(pid_t pid, const struct place *p, const struct search *s,
	int (*call)(pid_t pid, const struct search *s, struct err **err), struct err **err)
{
	_cleanup_err_ struct err *why = NULL;
	int r = call(pid, s, &why);

	if (r >= 0)
		return 0;
	/* A process that went away says nothing of the others of its place. */
	if (r == -ESRCH || !is_still_at(pid, p))
		return -ESRCH;
	return p->ns != s->home && is_sandbox(pid) ? 0 : err_set(err, r, "%s", err_text(why));
}

/* call: of a process of each place. The first failure is told. */
static int each_place(const struct search *s,
	int (*call)(pid_t pid, const struct search *s, struct err **err), struct err **err)
{
	_cleanup_free_ struct place *seen = NULL;
	_cleanup_free_ pid_t *pids = NULL;
	size_t n, n_seen = 0;
	int r, failed = 0;

	r = proc_pids(&pids, &n, err);
	if (r < 0)
		return r;
	seen = calloc(n + 1, sizeof(*seen));
	if (!seen)
		return err_errno(err, ENOMEM, "look at mount namespaces");
	for (size_t i = 0; i < n; i++) {
		struct place p;

		if (!place_of(pids[i], &p) || lfind(&p, seen, &n_seen, sizeof(p), by_place))
			continue;
		r = look_at(pids[i], &p, s, call, failed ? NULL : err);
		if (r == -ESRCH)
			continue;
		seen[n_seen++] = p;
		failed = failed ? failed : r;
	}
	return failed;
}

int file_overlay_remove(const char *source, uint64_t home, struct err **err)
{
	return each_place(&(struct search){source, home}, remove_from, err);
}

static int refuse_at(pid_t pid, const struct search *s, struct err **err)
{
	_cleanup_(mount_entry_done) struct mount_entry m = {0};
	int r = mount_find_source(pid, s->source, &m, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return err_set(err, EBUSY, "%s of process %d is still mounted over", m.point, (int)pid);
}

int file_overlay_verify(const char *source, uint64_t home, struct err **err)
{
	return each_place(&(struct search){source, home}, refuse_at, err);
}

/* In a thread: over a file that is there on every node, in a mount namespace of its own. */
static int try_inside(void *data, struct err **err)
{
	static const char over[] = "/proc/version";
	static const struct overlay_file file = {
		.source = "pgjolt-probe", .text = "x", .length = 1, .mode = 0400,
	};
	_cleanup_close_ int mount_fd = -1, watch = -1;
	struct stat st;
	dev_t dev = 0;
	int r;

	(void)data;
	r = file_overlay_new(&file, &mount_fd, &watch, &dev, err);
	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(err, errno, "make a mount namespace (needs CAP_SYS_ADMIN)");
	if (move_mount(mount_fd, "", AT_FDCWD, over, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(err, errno, "move_mount(2)");
	if (stat(over, &st) < 0 || st.st_dev != dev || st.st_size != 1)
		return err_set(err, EIO, "a file that was mounted over another is not what is seen there");
	if (umount2(over, MNT_DETACH) < 0 || stat(over, &st) < 0 || st.st_dev == dev)
		return err_set(err, EIO, "a file that was mounted over another does not go away");
	return 0;
}

int file_overlay_try(struct err **err)
{
	return thread_run(try_inside, NULL, err);
}
