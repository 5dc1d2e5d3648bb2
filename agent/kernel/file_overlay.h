/*
 * Another content for one file, in the eyes of one mount namespace: a file of a tmpfs of our own,
 * mounted over it (fsopen(2), open_tree(2), move_mount(2), mount_namespaces(7); Linux 5.2). What is
 * below is never touched. The tmpfs is named by its source, which shows in mountinfo, so that it is
 * found again by that alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"

struct overlay_file {
	const char *source;	/* unique; no blanks */
	const char *text;
	size_t length;
	uid_t uid;
	gid_t gid;
	mode_t mode;
	const char *label;	/* security.selinux, NULL: none */
};

/* A mount that is nowhere yet and is gone with its descriptor. *ret_watch: inotify(7) of its file,
 * for file_overlay_opened(). *ret_dev: of the tmpfs. */
int file_overlay_new(const struct overlay_file *file, int *ret_mount, int *ret_watch, dev_t *ret_dev,
	struct err **err);
/* Puts it over the file that file_fd (O_PATH) is, in the mount namespace of that process. -EPERM where
 * it would show elsewhere: the namespace is ours or the node's, or the mount below is shared. */
int file_overlay_put(pid_t pid, int file_fd, int mount_fd, struct err **err);
/* The same question alone. */
int file_overlay_check(pid_t pid, int file_fd, struct err **err);
/* How often the file was opened since the last call. */
uint64_t file_overlay_opened(int watch_fd);

/*
 * In every mount namespace of this node that has a process: one that was copied meanwhile has a copy. home:
 * number of the one that it was put into. Each is tried, whatever another says. Outside of home, what a
 * namespace of a user namespace of its own has is not insisted on: anybody may make one, the kernel lets
 * nobody unmount what was copied into it, and it ends with its processes.
 */
int file_overlay_remove(const char *source, uint64_t home, struct err **err);
/* 0: nowhere; -EBUSY names where it is. */
int file_overlay_verify(const char *source, uint64_t home, struct err **err);

/* Does all of it once, in a mount namespace that is made for that and gone at once. */
int file_overlay_try(struct err **err);
