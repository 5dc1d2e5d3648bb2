#include "fault/volume_target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/proc.h"

const char *const volume_words[VOLUME_WHICH_MAX] = {
	[VOLUME_DATA] = "data",
	[VOLUME_WAL] = "wal",
};

int volume_target_open(const struct instance_info *i, enum volume_which which, struct volume *ret,
	struct err **err)
{
	const struct proc_id id = {i->pid, i->start_ticks};
	_cleanup_(volume_done) struct volume v = {.dir_fd = -1};
	int r;

	r = volume_open(i->pid, which == VOLUME_WAL ? i->waldir : i->pgdata, &v, err);
	/* Opened first, checked after: then it is what this very process sees. */
	if (!proc_is_alive(&id))
		return err_set(err, ESTALE, "%s (pid %d) is gone", i->name, (int)i->pid);
	if (r < 0)
		return err_wrap(err, r, "%s volume of %s", volume_words[which], i->name);
	*ret = v;
	v = (struct volume){.dir_fd = -1};
	return 0;
}

/* The path as this agent names it, on a mount that process pid sees. */
static bool is_same(const struct volume *v, pid_t pid, const char *path)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	_cleanup_(mount_entry_done) struct mount_entry m = {0};
	struct stat st;
	uint64_t id;

	if (fd < 0 || fstat(fd, &st) < 0)
		return false;
	if (st.st_dev == v->dev)
		return true;
	/* Each subvolume of a Btrfs has a number of its own there, and takes from the same space. */
	return mount_of(fd, &id, NULL) >= 0 && mount_find(pid, id, &m, NULL) >= 0 &&
	       mount_shares_space(&v->mount, &m);
}

static int refuse_same(const struct volume *v, pid_t pid, const char *path, struct err **err)
{
	if (!is_same(v, pid, path))
		return 0;
	return err_set(err, EPERM,
		"%s (%s) is the node's own disk: it holds %s too, and filling it would hurt more than "
		"the instance", v->mount.source, v->mount.type, path);
}

int volume_refuse_node_disk(const struct volume *v, const char *journal, struct err **err)
{
	static const char *const folders[] = {"/", "/var", "/var/lib", "/var/lib/kubelet", "/run", "/tmp"};
	static const char *const refused[] = {"overlay", "tmpfs", "ramfs", "rootfs", "devtmpfs"};

	for (size_t i = 0; i < ELEMENTS(refused); i++)
		if (strcmp(v->mount.type, refused[i]) == 0)
			return err_set(err, EPERM,
				"the volume is %s: what is written there is on the node's own disk or in "
				"its memory", v->mount.type);
	for (size_t i = 0; i < ELEMENTS(folders); i++) {
		char path[64];
		int r;

		/* The node's, where the agent sees its PID 1, and the agent's own. */
		snprintf(path, sizeof(path), "/proc/1/root%s", folders[i]);
		r = refuse_same(v, 1, path, err);
		if (r >= 0)
			r = refuse_same(v, getpid(), folders[i], err);
		if (r < 0)
			return r;
	}
	return journal ? refuse_same(v, getpid(), journal, err) : 0;
}
