#include "fault/volume_target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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

static int refuse_same(const struct volume *v, const char *path, struct err **err)
{
	struct stat st;

	if (stat(path, &st) < 0 || st.st_dev != v->dev)
		return 0;
	return err_set(err, EPERM,
		"%s (%s) is the node's own disk: it holds %s too, and filling it would hurt more than "
		"the instance", v->source, v->type, path);
}

int volume_refuse_node_disk(const struct volume *v, const char *journal, struct err **err)
{
	static const char *const folders[] = {"/", "/var", "/var/lib", "/var/lib/kubelet", "/run", "/tmp"};
	static const char *const refused[] = {"overlay", "tmpfs", "ramfs", "rootfs", "devtmpfs"};

	for (size_t i = 0; i < ELEMENTS(refused); i++)
		if (strcmp(v->type, refused[i]) == 0)
			return err_set(err, EPERM,
				"the volume is %s: what is written there is on the node's own disk or in "
				"its memory", v->type);
	for (size_t i = 0; i < ELEMENTS(folders); i++) {
		char path[64];
		int r;

		/* The node's, where the agent sees its PID 1, and the agent's own. */
		snprintf(path, sizeof(path), "/proc/1/root%s", folders[i]);
		r = refuse_same(v, path, err);
		if (r >= 0)
			r = refuse_same(v, folders[i], err);
		if (r < 0)
			return r;
	}
	return journal ? refuse_same(v, journal, err) : 0;
}
