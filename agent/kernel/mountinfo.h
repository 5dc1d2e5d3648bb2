/* What is mounted in a process's mount namespace: /proc/PID/mountinfo (proc_pid_mountinfo(5)). Only
 * what is below the process's root is there. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"

struct mount_entry {
	uint64_t id;
	dev_t dev;		/* of the superblock: one for all subvolumes of a Btrfs, unlike their st_dev */
	bool shared;		/* what is mounted on it appears elsewhere too */
	char *point;		/* where, as the process sees it */
	char *type;
	char *source;
};

void mount_entry_done(struct mount_entry *m);
/* One line, without its end. -EINVAL. */
int mount_parse(const char *line, struct mount_entry *ret, struct err **err);
/* By its number. -EIO if it is not there. */
int mount_find(pid_t pid, uint64_t id, struct mount_entry *ret, struct err **err);
/* The first whose source is this. -ENOENT. */
int mount_find_source(pid_t pid, const char *source, struct mount_entry *ret, struct err **err);
/* Do the two take their space from one file system, or, in ZFS, from one pool? */
bool mount_shares_space(const struct mount_entry *a, const struct mount_entry *b);
/* Number of the mount that an open file is on. */
int mount_of(int fd, uint64_t *ret, struct err **err);
