/*
 * disk-fill: the free space of one of the instance's volumes, held by an unnamed file of the agent
 * (hold/space.h). Held: the kernel gives it back when the file is closed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "fault/group_target.h"
#include "fault/volume_target.h"
#include "hold/space.h"
#include "kernel/proc.h"

#define FAULT	     "disk-fill"
/* A disk that takes longer than this to fill goes on doing so while the fault is active. */
#define FIRE_WAIT_NS (250 * NS_PER_MS)

struct fill {
	struct volume volume;
	struct space *space;
	uint64_t leave_bytes;
	uint64_t free_before;
};

static void fill_free(struct fill *x)
{
	space_freep(&x->space);
	volume_done(&x->volume);
	free(x);
}
DEFINE_CLEANUP(struct fill, fill_free)

/* A volume's file system decides in the end; here it is tried where the agent may write. */
static int try_it(const struct node *node, struct err **err)
{
	const char *folder = node->journal_path ? node->journal_path : "/tmp";
	_cleanup_close_ int fd = -1;

	if (!proc_has_capability(CAP_SYS_PTRACE))
		return err_set(err, EPERM, "CAP_SYS_PTRACE is missing");
	/* In a folder of another owner. */
	if (!proc_has_capability(CAP_DAC_OVERRIDE))
		return err_set(err, EPERM, "CAP_DAC_OVERRIDE is missing");
	fd = open(folder, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && errno != EOPNOTSUPP && errno != ENOENT)
		return err_errno(err, errno, "make an unnamed file (O_TMPFILE, Linux 3.11) in %s", folder);
	if (fd >= 0 && fallocate(fd, 0, 0, 4096) < 0 && errno != EOPNOTSUPP && errno != ENOSPC)
		return err_errno(err, errno, "fallocate(2) in %s", folder);
	return 0;
}

static int probe(const struct node *node, struct support *ret, struct err **err)
{
	_cleanup_err_ struct err *why = NULL;
	int r;

	(void)err;
	r = try_it(node, &why);
	ret->supported = r >= 0;
	if (r >= 0)
		ret->mechanism = strdup("unnamed file");
	else
		ret->reason = strdup(err_text(why));
	return 0;
}

static int how_much(struct fill *x, const struct params *p, struct err **err)
{
	struct volume_space space;
	uint64_t ppm = params_number(p, "fill");
	int r;

	r = volume_space(x->volume.dir_fd, &space, err);
	if (r < 0)
		return r;
	x->free_before = space.free_bytes;
	x->leave_bytes = params_number(p, "leave");
	if (params_is_set(p, "fill"))
		x->leave_bytes = (uint64_t)((unsigned __int128)space.total_bytes * (1000000 - ppm) / 1000000);
	return 0;
}

static int open_file(struct fill *x, cJSON *record, struct err **err)
{
	struct stat st;
	int fd, r;

	r = volume_unnamed_file(&x->volume, &fd, err);
	if (r < 0)
		return r;
	r = fstat(fd, &st) < 0 ? -errno : 0;
	json_add_uint(record, "dev", st.st_dev);
	json_add_uint(record, "inode", st.st_ino);
	if (r < 0) {
		closep(&fd);
		return err_errno(err, r, "look at a file");
	}
	return space_new(fd, &x->space, err);
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(fill_freep) struct fill *x = calloc(1, sizeof(*x));
	enum volume_which which = (enum volume_which)params_number(f->params, "volume");
	_cleanup_json_ cJSON *record = json_object();
	int r;

	if (!x)
		return err_errno(err, ENOMEM, "arm " FAULT);
	x->volume.dir_fd = -1;
	r = volume_target_open(f->instance, which, &x->volume, err);
	if (r >= 0)
		r = volume_refuse_node_disk(&x->volume, f->node->journal_path, err);
	if (r >= 0)
		r = how_much(x, f->params, err);
	if (r < 0)
		return r;
	node_point(f->node, FAULT, "opening");
	r = open_file(x, record, err);
	node_point(f->node, FAULT, "opened");
	if (r < 0)
		return r;
	ret->record = steal_ptr(record);
	f->state = steal_ptr(x);
	f->mechanism = "unnamed file";
	f->lifetime = LIFETIME_HELD;
	return 0;
}

static int fire(struct fault *f, struct err **err)
{
	struct fill *x = f->state;

	(void)err;
	node_point(f->node, FAULT, "before-fire");
	space_take(x->space, x->leave_bytes, FIRE_WAIT_NS);
	return 0;
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct fill *x = f->state;
	struct space_state s;

	(void)err;
	space_state(x->space, &s);
	ret->hits = s.taken_bytes;
	ret->detail = json_object();
	json_add_string(ret->detail, "volume", x->volume.mount.source);
	json_add_string(ret->detail, "file_system", x->volume.mount.type);
	json_add_uint(ret->detail, "taken_bytes", s.taken_bytes);
	json_add_uint(ret->detail, "free_bytes", s.free_bytes);
	json_add_uint(ret->detail, "free_bytes_before", x->free_before);
	json_add_uint(ret->detail, "leave_bytes", x->leave_bytes);
	json_add_bool(ret->detail, "full", s.full);
	json_add_string(ret->detail, "by", s.written ? "write" : "fallocate");
	if (s.error)
		json_add_string(ret->detail, "ended_by", strerrordesc_np(s.error));
	return 0;
}

static void release(struct fault *f)
{
	node_point(f->node, FAULT, "before-release");
	fill_free(f->state);
	f->state = NULL;
	node_point(f->node, FAULT, "freed");
}

struct file_record {
	uint64_t dev, inode;
};

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Nobody else can have a file without a name: is it still among our own? */
static int verify_clean(const struct undo *u, struct err **err)
{
	static const struct json_field fields[] = {
		{"dev", JSON_UINT64, offsetof(struct file_record, dev), .mandatory = true},
		{"inode", JSON_UINT64, offsetof(struct file_record, inode), .mandatory = true},
		JSON_FIELD_END,
	};
	_cleanup_(closedirp) DIR *dir = NULL;
	struct file_record x = {0};
	struct dirent *entry;
	int r;

	r = json_dispatch(u->record, fields, &x, JSON_REFUSE_UNKNOWN, err);
	if (r < 0)
		return err_wrap(err, EBADMSG, "record of " FAULT);
	dir = opendir("/proc/self/fd");
	if (!dir)
		return err_errno(err, errno, "open /proc/self/fd");
	while ((entry = readdir(dir))) {
		struct stat st;

		if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode) &&
		    st.st_dev == x.dev && st.st_ino == x.inode && st.st_nlink == 0)
			return err_set(err, EBUSY, "the file that holds the space is still open");
	}
	return 0;
}

/* What is open keeps the volume from being taken away: it ends when nothing of the pod is left. */
const struct fault_driver driver_disk_fill = {
	.spec = &fault_disk_fill,
	.probe = probe,
	.arm = arm,
	.fire = fire,
	.observe = observe,
	.release = release,
	.verify_clean = verify_clean,
	.target_is_gone = group_target_is_gone,
};
