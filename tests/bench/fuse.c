/*
 * A file system in user space that passes everything on to a folder, and sleeps before reads or
 * flushes: what there is besides the gates to make a file system slow. Built where libfuse3 is.
 *
 *   bench-fuse FOLDER MOUNTPOINT
 *
 * Lines on stdin: "read NS" and "fsync NS" set how long each sleeps from now on, answered with "ok".
 * Every read comes here, cached ones too (direct_io), as they come to a gate. At the end of stdin it
 * unmounts.
 */
#define FUSE_USE_VERSION 35
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ULL

static int root_fd;
static _Atomic uint64_t read_ns, fsync_ns;

static void wait_for(uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

	if (ns)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

/* "/a/b" below the folder. */
static const char *below(const char *path)
{
	return path[1] ? path + 1 : ".";
}

static int result(long r)
{
	return r < 0 ? -errno : (int)r;
}

static int give_away(const char *path)
{
	const struct fuse_context *c = fuse_get_context();

	return result(fchownat(root_fd, below(path), c->uid, c->gid, AT_SYMLINK_NOFOLLOW));
}

static void *on_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	(void)connection;
	config->direct_io = 1;
	config->use_ino = 1;
	config->hard_remove = 1;
	return NULL;
}

static int on_getattr(const char *path, struct stat *s, struct fuse_file_info *f)
{
	return result(f ? fstat((int)f->fh, s) : fstatat(root_fd, below(path), s, AT_SYMLINK_NOFOLLOW));
}

static int on_readlink(const char *path, char *buf, size_t size)
{
	ssize_t n = readlinkat(root_fd, below(path), buf, size - 1);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

static int on_mkdir(const char *path, mode_t mode)
{
	int r = result(mkdirat(root_fd, below(path), mode));

	return r < 0 ? r : give_away(path);
}

static int on_unlink(const char *path)
{
	return result(unlinkat(root_fd, below(path), 0));
}

static int on_rmdir(const char *path)
{
	return result(unlinkat(root_fd, below(path), AT_REMOVEDIR));
}

static int on_symlink(const char *target, const char *path)
{
	int r = result(symlinkat(target, root_fd, below(path)));

	return r < 0 ? r : give_away(path);
}

static int on_rename(const char *from, const char *to, unsigned flags)
{
	return result(renameat2(root_fd, below(from), root_fd, below(to), flags));
}

static int on_link(const char *from, const char *to)
{
	return result(linkat(root_fd, below(from), root_fd, below(to), 0));
}

static int on_chmod(const char *path, mode_t mode, struct fuse_file_info *f)
{
	return result(f ? fchmod((int)f->fh, mode) : fchmodat(root_fd, below(path), mode, 0));
}

static int on_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *f)
{
	return result(f ? fchown((int)f->fh, uid, gid) :
			  fchownat(root_fd, below(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int on_open(const char *path, struct fuse_file_info *f)
{
	int fd = openat(root_fd, below(path), (f->flags & ~O_NOFOLLOW) | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	f->fh = (uint64_t)fd;
	return 0;
}

static int on_create(const char *path, mode_t mode, struct fuse_file_info *f)
{
	int fd = openat(root_fd, below(path), f->flags | O_CREAT | O_CLOEXEC, mode);

	if (fd < 0)
		return -errno;
	f->fh = (uint64_t)fd;
	return give_away(path);
}

static int on_truncate(const char *path, off_t size, struct fuse_file_info *f)
{
	struct fuse_file_info own = {.flags = O_WRONLY};
	int r = f ? 0 : on_open(path, &own);

	if (r < 0)
		return r;
	r = result(ftruncate((int)(f ? f->fh : own.fh), size));
	if (!f)
		close((int)own.fh);
	return r;
}

static int on_read(const char *path, char *buf, size_t size, off_t at, struct fuse_file_info *f)
{
	(void)path;
	wait_for(read_ns);
	return result(pread((int)f->fh, buf, size, at));
}

static int on_write(const char *path, const char *buf, size_t size, off_t at, struct fuse_file_info *f)
{
	(void)path;
	return result(pwrite((int)f->fh, buf, size, at));
}

static int on_fsync(const char *path, int data_alone, struct fuse_file_info *f)
{
	(void)path;
	wait_for(fsync_ns);
	return result(data_alone ? fdatasync((int)f->fh) : fsync((int)f->fh));
}

static int on_fsyncdir(const char *path, int data_alone, struct fuse_file_info *f)
{
	int fd = openat(root_fd, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : result(fsync(fd));

	(void)data_alone;
	(void)f;
	if (fd >= 0)
		close(fd);
	return r;
}

static int on_release(const char *path, struct fuse_file_info *f)
{
	(void)path;
	return result(close((int)f->fh));
}

static int on_fallocate(const char *path, int mode, off_t at, off_t size, struct fuse_file_info *f)
{
	(void)path;
	return result(fallocate((int)f->fh, mode, at, size));
}

static int on_statfs(const char *path, struct statvfs *s)
{
	(void)path;
	return result(fstatvfs(root_fd, s));
}

static int on_utimens(const char *path, const struct timespec t[2], struct fuse_file_info *f)
{
	return result(f ? futimens((int)f->fh, t) :
			  utimensat(root_fd, below(path), t, AT_SYMLINK_NOFOLLOW));
}

static int on_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t at, struct fuse_file_info *f,
	enum fuse_readdir_flags flags)
{
	int fd = openat(root_fd, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	(void)at;
	(void)f;
	(void)flags;
	if (!dir)
		return -errno;
	while ((e = readdir(dir)) && fill(buf, e->d_name, NULL, 0, 0) == 0)
		;
	closedir(dir);
	return 0;
}

static const struct fuse_operations operations = {
	.init = on_init, .getattr = on_getattr, .readlink = on_readlink, .mkdir = on_mkdir,
	.unlink = on_unlink, .rmdir = on_rmdir, .symlink = on_symlink, .rename = on_rename,
	.link = on_link, .chmod = on_chmod, .chown = on_chown, .truncate = on_truncate,
	.open = on_open, .create = on_create, .read = on_read, .write = on_write, .fsync = on_fsync,
	.fsyncdir = on_fsyncdir, .release = on_release, .fallocate = on_fallocate,
	.statfs = on_statfs, .utimens = on_utimens, .readdir = on_readdir,
};

static void *obey(void *data)
{
	unsigned long long ns;
	char line[64], what[16];

	(void)data;
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%15s %llu", what, &ns) != 2)
			break;
		if (strcmp(what, "read") == 0)
			read_ns = ns;
		else
			fsync_ns = ns;
		puts("ok");
		fflush(stdout);
	}
	kill(getpid(), SIGTERM);	/* libfuse leaves its loop */
	return NULL;
}

int main(int argc, char **argv)
{
	char options[] = "-oallow_other,default_permissions,fsname=pgjolt-bench";
	char *words[] = {argv[0], options, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(2, words);
	struct fuse_loop_config config = {.clone_fd = 0, .max_idle_threads = 16};
	struct fuse *fuse;
	pthread_t thread;
	int r;

	umask(0);
	root_fd = argc == 3 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (root_fd < 0)
		return 2;
	fuse = fuse_new(&args, &operations, sizeof(operations), NULL);
	if (!fuse || fuse_mount(fuse, argv[2]) != 0)
		return 1;
	fuse_set_signal_handlers(fuse_get_session(fuse));
	pthread_create(&thread, NULL, obey, NULL);
	puts("ready");
	fflush(stdout);
	r = fuse_loop_mt(fuse, &config);
	fuse_unmount(fuse);
	fuse_destroy(fuse);
	return r < 0;
}
