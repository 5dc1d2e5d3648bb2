/*
 * The file system that a process sees at a path: openat2(2) inside its root, statvfs(3),
 * /proc/PID/mountinfo (proc_pid_mountinfo(5)), /sys/dev/block.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"
#include "kernel/mountinfo.h"

struct volume {
	int dir_fd;	/* the folder */
	dev_t dev;	/* st_dev: that of the file system, which need not be a device's */
	struct mount_entry mount;	/* type "ext4"; source "/dev/loop0", "server:/export", "overlay" */
};

struct volume_space {
	uint64_t free_bytes;	/* for those who are not root */
	uint64_t total_bytes;	/* of those: used and free */
	uint64_t block_bytes;
};

void volume_done(struct volume *v);
/* path: as the process sees it; no link in it leads out of the process's root. -ESRCH when the process
 * is gone. */
int volume_open(pid_t pid, const char *path, struct volume *ret, struct err **err);
int volume_space(int fd, struct volume_space *ret, struct err **err);

/* A file in the folder that never had a name and cannot get one (O_TMPFILE, O_EXCL): it is gone with
 * its last descriptor. -EOPNOTSUPP where the file system has none. */
int volume_unnamed_file(const struct volume *v, int *ret_fd, struct err **err);

/* The whole disk that its blocks are on: the one that limits and statistics are kept for.
 * -EOPNOTSUPP where there is no block device below (overlay, tmpfs, network). */
int volume_device(const struct volume *v, dev_t *ret, struct err **err);
