/*
 * tls-cert: a certificate of an instance is another one in its own view: a file of ours mounted over it
 * in its mount namespace (kernel/file_overlay.h). Journaled: the kernel keeps a mount when we die.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/durable.h"
#include "core/json.h"
#include "fault/certificate.h"
#include "fault/fault.h"
#include "fault/group_target.h"
#include "fault/tls_cert_file.h"
#include "fault/tls_cert_record.h"
#include "kernel/file_overlay.h"
#include "kernel/mountinfo.h"
#include "kernel/proc.h"
#include "kernel/root.h"

#define FAULT	  "tls-cert"
#define FILE_MAX  (1UL << 20)
#define KEY_MAX	  (64UL << 10)
#define LABEL_MAX 256

/* The first four are those of enum certificate_change. */
enum mode { MODE_EXPIRED, MODE_NOT_YET_VALID, MODE_UNTRUSTED, MODE_WRONG_HOST, MODE_UNREADABLE };

struct cert {
	enum mode mode;
	enum tls_file which;
	struct proc_id postmaster;
	char *named;			/* as PostgreSQL names the file */
	char *path;			/* what that leads to */
	struct stat below;
	char label[LABEL_MAX];		/* SELinux's; empty: none */
	char source[TLS_CERT_SOURCE_MAX];
	int mount_fd, watch_fd;
	dev_t dev;			/* of our tmpfs */
	struct certificate_report report;
	cJSON *record;			/* the undo's: it outlives us */
	bool fired;
	uint64_t fired_realtime_ns;
	uint64_t opened;
};

static void cert_free(struct cert *x)
{
	closep(&x->mount_fd);
	closep(&x->watch_fd);
	certificate_report_done(&x->report);
	free(x->named);
	free(x->path);
	free(x);
}
DEFINE_CLEANUP(struct cert, cert_free)

static int probe(const struct node *node, struct support *ret, struct err **err)
{
	static const struct {
		unsigned number;
		const char *name;
	} needed[] = {{CAP_SYS_CHROOT, "CAP_SYS_CHROOT"}, {CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
		{CAP_KILL, "CAP_KILL"}};
	_cleanup_err_ struct err *why = NULL;
	int r;

	(void)node;
	(void)err;
	r = file_overlay_try(&why);
	for (size_t i = 0; i < ELEMENTS(needed) && r >= 0; i++)
		if (!proc_has_capability(needed[i].number))
			r = err_set(&why, EPERM, "%s is missing", needed[i].name);
	ret->supported = r >= 0;
	if (r >= 0)
		ret->mechanism = strdup("mount");
	else
		ret->reason = strdup(err_text(why));
	return 0;
}

/* One fault at a time has a file: else the first to end would leave the other's below its own. */
static int refuse_ours(const struct cert *x, int fd, struct err **err)
{
	_cleanup_(mount_entry_done) struct mount_entry m = {0};
	uint64_t id;
	int r;

	r = mount_of(fd, &id, err);
	if (r >= 0)
		r = mount_find(x->postmaster.pid, id, &m, err);
	if (r >= 0 && strncmp(m.source, TLS_CERT_SOURCE, strlen(TLS_CERT_SOURCE)) == 0)
		r = err_set(err, EBUSY, "another " FAULT " has %s", x->named);
	return r;
}

/* Opened once: owner, mode and content are of one and the same file, whatever is renamed meanwhile. */
static int find_file(struct cert *x, const struct fault *f, int *ret_fd, struct err **err)
{
	const char *given = params_text(f->params, "path");
	_cleanup_close_ int fd = -1;
	ssize_t n;
	int r;

	if (given && given[0]) {
		x->named = strdup(given);
		r = x->named ? 0 : err_errno(err, ENOMEM, "name a file");
	} else {
		r = tls_file_find(f->instance, x->which, &x->named, err);
	}
	if (r >= 0)
		r = root_open_regular(x->postmaster.pid, x->named, &fd, err);
	if (r < 0)
		return r;
	if (fstat(fd, &x->below) < 0)
		return err_errno(err, errno, "look at %s", x->named);
	n = fgetxattr(fd, "security.selinux", x->label, sizeof(x->label) - 1);
	x->label[n > 0 ? n : 0] = '\0';
	r = root_path_of(x->postmaster.pid, fd, &x->path, err);
	if (r >= 0)
		r = refuse_ours(x, fd, err);
	if (r >= 0)
		r = file_overlay_check(x->postmaster.pid, fd, err);
	if (r >= 0)
		*ret_fd = steal_fd(&fd);
	return r;
}

static int read_ca_key(const struct params *p, char **ret, struct err **err)
{
	const char *path = params_text(p, "ca-key");
	size_t length;
	int r;

	if (!path || !path[0])
		return 0;
	r = file_read(AT_FDCWD, path, KEY_MAX, ret, &length, err);
	return r < 0 ? err_wrap(err, r == -ENOENT ? EINVAL : r, "ca-key") : 0;
}

/* The new content; of an unreadable file the old one, which nobody gets to see. */
static int make_text(struct cert *x, int fd, const struct params *p, char **ret, size_t *ret_length,
	struct err **err)
{
	_cleanup_(certificate_text_freep) char *text = NULL, *key = NULL;
	struct certificate_order order = {
		.change = (enum certificate_change)x->mode,
		.every = x->which == TLS_FILE_CA,
		.now_s = realtime_ns() / NS_PER_S,
		.by_s = params_number(p, "by") / NS_PER_S,
	};
	size_t length;
	int r;

	r = root_read_fd(fd, x->named, FILE_MAX, &text, &length, err);
	if (r < 0)
		return r;
	if (x->mode == MODE_UNREADABLE) {
		*ret = steal_ptr(text);
		*ret_length = length;
		return 0;
	}
	r = read_ca_key(p, &key, err);
	order.ca_key = key;
	if (r >= 0)
		r = certificate_remake(text, length, &order, ret, ret_length, &x->report, err);
	return r < 0 ? err_wrap(err, r, "%s", x->named) : 0;
}

static int make_mount(struct cert *x, int fd, const struct params *p, struct err **err)
{
	_cleanup_(certificate_text_freep) char *text = NULL;
	struct overlay_file file = {
		.source = x->source,
		.uid = x->below.st_uid,
		.gid = x->below.st_gid,
		.mode = x->mode == MODE_UNREADABLE ? 0 : x->below.st_mode & 07777,
		.label = x->label[0] ? x->label : NULL,
	};
	int r;

	r = make_text(x, fd, p, &text, &file.length, err);
	if (r >= 0)
		r = tls_cert_source_draw(x->source, err);
	if (r < 0)
		return r;
	file.text = text;
	return file_overlay_new(&file, &x->mount_fd, &x->watch_fd, &x->dev, err);
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(cert_freep) struct cert *x = calloc(1, sizeof(*x));
	_cleanup_close_ int fd = -1;
	uint64_t ns = 0;
	int r;

	if (!x)
		return err_errno(err, ENOMEM, "arm " FAULT);
	x->mount_fd = x->watch_fd = -1;
	x->mode = (enum mode)params_number(f->params, "mode");
	x->which = (enum tls_file)params_number(f->params, "file");
	x->postmaster = (struct proc_id){f->instance->pid, f->instance->start_ticks};
	node_point(f->node, FAULT, "reading");
	r = find_file(x, f, &fd, err);
	if (r >= 0)
		r = make_mount(x, fd, f->params, err);
	if (r >= 0)
		r = proc_namespace(x->postmaster.pid, "mnt", &ns, err);
	/* Read first, checked after: then it is what this very process sees. */
	if (!proc_is_alive(&x->postmaster))
		r = err_set(err, ESTALE, "%s (pid %d) is gone", f->instance->name, (int)x->postmaster.pid);
	if (r < 0)
		return r == -ENOENT ? err_wrap(err, EINVAL, "%s", f->instance->name) : r;
	node_point(f->node, FAULT, "made");
	x->record = tls_cert_record(f->instance, x->source, x->path, ns, x->which != TLS_FILE_CLIENT);
	ret->record = x->record;
	f->mechanism = "mount";
	f->lifetime = LIFETIME_JOURNALED;
	f->state = steal_ptr(x);
	return 0;
}

/* The very file that was read when arming. */
static int open_below(const struct cert *x, int *ret_fd, struct err **err)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	r = root_open(x->postmaster.pid, x->named, O_PATH, &fd, err);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0 || st.st_dev != x->below.st_dev || st.st_ino != x->below.st_ino ||
	    st.st_mtim.tv_sec != x->below.st_mtim.tv_sec || st.st_mtim.tv_nsec != x->below.st_mtim.tv_nsec)
		return err_set(err, EBUSY, "%s was changed since the fault was armed", x->named);
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int fire(struct fault *f, struct err **err)
{
	struct cert *x = f->state;
	_cleanup_close_ int below = -1;
	int r;

	node_point(f->node, FAULT, "before-fire");
	r = open_below(x, &below, err);
	if (r < 0)
		return r == -ESRCH ? err_wrap(err, ESTALE, "%s is gone", f->instance->name) : r;
	x->fired = true;
	x->fired_realtime_ns = realtime_ns();
	r = file_overlay_put(x->postmaster.pid, below, x->mount_fd, err);
	/* A descriptor of it would keep it busy. */
	closep(&x->mount_fd);
	x->mount_fd = -1;
	node_point(f->node, FAULT, "mounted");
	if (r >= 0 && x->which != TLS_FILE_CLIENT)
		r = proc_signal(&x->postmaster, SIGHUP, err);
	return r;
}

/* Does the path still lead to what we mounted? */
static bool is_in_place(const struct cert *x)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	return x->fired && root_open(x->postmaster.pid, x->named, O_PATH, &fd, NULL) >= 0 &&
	       fstat(fd, &st) == 0 && st.st_dev == x->dev;
}

static void add_time(cJSON *o, const char *name, int64_t seconds)
{
	time_t when = (time_t)seconds;
	char text[32];
	struct tm tm;

	gmtime_r(&when, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_add_string(o, name, text);
}

static void add_certificate(cJSON *o, const struct certificate_report *r)
{
	json_add_uint(o, "certificates", r->count);
	json_add_string(o, "subject", r->subject);
	json_add_string(o, "issuer", r->issuer);
	add_time(o, "not_before", r->not_before_s);
	add_time(o, "not_after", r->not_after_s);
	json_add_string(o, "signature", r->signature);
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	struct cert *x = f->state;
	bool in_place = is_in_place(x);

	(void)err;
	x->opened += file_overlay_opened(x->watch_fd);
	ret->hits = x->mode == MODE_UNREADABLE ? in_place : x->opened;
	ret->detail = json_object();
	json_add_string(ret->detail, "path", x->named);
	json_add_string(ret->detail, "mounted_over", x->path);
	json_add_bool(ret->detail, "in_place", in_place);
	if (x->fired)
		add_time(ret->detail, "fired", (int64_t)(x->fired_realtime_ns / NS_PER_S));
	json_add_uint(ret->detail, "opened", x->opened);
	json_add_bool(ret->detail, "reload", x->which != TLS_FILE_CLIENT);
	if (x->report.count)
		add_certificate(ret->detail, &x->report);
	return 0;
}

static void release(struct fault *f)
{
	struct cert *x = f->state;

	node_point(f->node, FAULT, "releasing");
	/* What was never shown need not be loaded again. */
	if (!x->fired)
		cJSON_ReplaceItemInObjectCaseSensitive(x->record, "reload",
			cJSON_CreateFalse());
	cert_free(x);
	f->state = NULL;
}

const struct fault_driver driver_tls_cert = {
	.spec = &fault_tls_cert,
	.probe = probe,
	.arm = arm,
	.fire = fire,
	.observe = observe,
	.release = release,
	.revert = tls_cert_revert,
	.verify_clean = tls_cert_verify,
	/* A container goes on while PostgreSQL starts again in it, and so does the mount. */
	.target_is_gone = group_target_is_gone,
};
