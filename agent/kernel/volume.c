#include "kernel/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/root.h"

void volume_done(struct volume *v)
{
	closep(&v->dir_fd);
	mount_entry_done(&v->mount);
	*v = (struct volume){.dir_fd = -1};
}

int volume_open(pid_t pid, const char *path, struct volume *ret, struct err **err)
{
	_cleanup_(volume_done) struct volume v = {.dir_fd = -1};
	struct stat st;
	uint64_t mount;
	int r;

	r = root_open(pid, path, O_RDONLY | O_DIRECTORY, &v.dir_fd, err);
	if (r < 0)
		return r;
	if (fstat(v.dir_fd, &st) < 0)
		return err_errno(err, errno, "look at %s", path);
	v.dev = st.st_dev;
	r = mount_of(v.dir_fd, &mount, err);
	if (r >= 0)
		r = mount_find(pid, mount, &v.mount, err);
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
			v->mount.type, v->mount.source);
	if (fd < 0)
		return err_errno(err, errno, "make an unnamed file on %s (%s)", v->mount.source, v->mount.type);
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
	if (strncmp(v->mount.source, "/dev/", 5) == 0 && stat(v->mount.source, &st) == 0 &&
	    S_ISBLK(st.st_mode)) {
		*ret = st.st_rdev;
		return 0;
	}
	return err_set(err, EOPNOTSUPP, "%s (%s) is on no block device of this node", v->mount.type,
		v->mount.source);
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
