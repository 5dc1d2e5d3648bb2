#include "kernel/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/proc.h"

#define MOUNTINFO_MAX (4UL << 20)

void volume_done(struct volume *v)
{
	closep(&v->dir_fd);
	free(v->type);
	free(v->source);
	*v = (struct volume){.dir_fd = -1};
}

static int open_folder(pid_t pid, const char *path, int *ret_fd, struct err **err)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_close_ int root = -1;
	char link[64];
	int fd;

	snprintf(link, sizeof(link), "/proc/%d/root", (int)pid);
	root = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_errno(err, errno == ENOENT ? ESRCH : errno, "open %s", link);
	fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	if (fd < 0)
		return err_errno(err, errno, "open %s in the root of process %d", path, (int)pid);
	*ret_fd = fd;
	return 0;
}

static int mount_of(int fd, uint64_t *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	const char *line;
	char name[32];
	size_t length;
	int r;

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	r = proc_read_file(getpid(), name, 4096, &text, &length, err);
	if (r < 0)
		return r;
	line = strstr(text, "mnt_id:");
	if (!line || sscanf(line, "mnt_id: %" SCNu64, ret) != 1)
		return err_set(err, EIO, "the kernel does not tell the mount of a folder");
	return 0;
}

/* " - TYPE SOURCE OPTIONS" of the line that begins with the mount's number. */
static int read_mount(pid_t pid, struct volume *v, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	char *line, *save = NULL;
	size_t length;
	int r;

	r = proc_read_file(pid, "mountinfo", MOUNTINFO_MAX, &text, &length, err);
	if (r < 0)
		return r;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char type[64], source[256];
		const char *tail;
		uint64_t id;

		if (sscanf(line, "%" SCNu64 " ", &id) != 1 || id != v->mount_id)
			continue;
		tail = strstr(line, " - ");
		if (!tail || sscanf(tail, " - %63s %255s", type, source) != 2)
			break;
		v->type = strdup(type);
		v->source = strdup(source);
		return v->type && v->source ? 0 : err_errno(err, ENOMEM, "look at a mount");
	}
	return err_set(err, EIO, "mount %" PRIu64 " is not among those of process %d", v->mount_id,
		(int)pid);
}

int volume_open(pid_t pid, const char *path, struct volume *ret, struct err **err)
{
	_cleanup_(volume_done) struct volume v = {.dir_fd = -1};
	struct stat st;
	int r;

	r = open_folder(pid, path, &v.dir_fd, err);
	if (r < 0)
		return r;
	if (fstat(v.dir_fd, &st) < 0)
		return err_errno(err, errno, "look at %s", path);
	v.dev = st.st_dev;
	r = mount_of(v.dir_fd, &v.mount_id, err);
	if (r >= 0)
		r = read_mount(pid, &v, err);
	if (r < 0)
		return r;
	*ret = v;
	v = (struct volume){.dir_fd = -1};
	return 0;
}

int volume_space(int fd, struct volume_space *ret, struct err **err)
{
	struct statvfs s;

	if (fstatvfs(fd, &s) < 0)
		return err_errno(err, errno, "ask for the space of a file system");
	if (s.f_frsize == 0 || s.f_blocks < s.f_bfree)
		return err_set(err, EOPNOTSUPP, "the file system does not tell its space");
	*ret = (struct volume_space){
		.free_bytes = (uint64_t)s.f_bavail * s.f_frsize,
		.total_bytes = (uint64_t)(s.f_blocks - s.f_bfree + s.f_bavail) * s.f_frsize,
		.block_bytes = s.f_frsize,
	};
	return 0;
}

int volume_unnamed_file(const struct volume *v, int *ret_fd, struct err **err)
{
	int fd = openat(v->dir_fd, ".", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC | O_LARGEFILE, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
		return err_set(err, EOPNOTSUPP,
			"%s (%s) has no unnamed files (O_TMPFILE): what a killed agent leaves would stay",
			v->type, v->source);
	if (fd < 0)
		return err_errno(err, errno, "make an unnamed file on %s (%s)", v->source, v->type);
	*ret_fd = fd;
	return 0;
}

/* btrfs and the like have a number of their own; the mount names the device. */
static int device_of(const struct volume *v, dev_t *ret, struct err **err)
{
	struct stat st;

	if (major(v->dev) != 0) {
		*ret = v->dev;
		return 0;
	}
	if (strncmp(v->source, "/dev/", 5) == 0 && stat(v->source, &st) == 0 &&
	    S_ISBLK(st.st_mode)) {
		*ret = st.st_rdev;
		return 0;
	}
	return err_set(err, EOPNOTSUPP, "%s (%s) is on no block device of this node", v->type,
		v->source);
}

int volume_device(const struct volume *v, dev_t *ret, struct err **err)
{
	_cleanup_fclose_ FILE *f = NULL;
	unsigned high, low;
	char path[96];
	dev_t dev;
	int r;

	r = device_of(v, &dev, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/partition", major(dev), minor(dev));
	if (access(path, F_OK) == 0) {
		/* The name is a link: ".." is the folder of the disk. */
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/../dev", major(dev), minor(dev));
		f = fopen(path, "re");
		if (!f || fscanf(f, "%u:%u", &high, &low) != 2)
			return err_set(err, EIO, "%s does not tell the disk of partition %u:%u", path,
				major(dev), minor(dev));
		dev = makedev(high, low);
	}
	*ret = dev;
	return 0;
}
