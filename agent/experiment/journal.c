#include "experiment/journal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "core/cleanup.h"
#include "core/durable.h"
#include "core/json.h"
#include "core/wire.h"

#define ENTRY_MAX_BYTES (1UL << 20)
#define ENTRY_SUFFIX	".json"
#define BAD_SUFFIX	".json.bad"
#define LOCK_NAME	"lock"

struct journal {
	char *path;
	int dir_fd;
	int lock_fd;
};

static const struct json_field entry_fields[] = {
	{"experiment", JSON_STRING, offsetof(struct journal_entry, experiment), .mandatory = true},
	{"run", JSON_STRING, offsetof(struct journal_entry, run), .mandatory = true},
	{"fault", JSON_STRING, offsetof(struct journal_entry, fault), .mandatory = true},
	{"instance", JSON_STRING, offsetof(struct journal_entry, instance), .mandatory = true},
	{"pid", JSON_PID, offsetof(struct journal_entry, postmaster.pid), .mandatory = true},
	{"start_ticks", JSON_UINT64, offsetof(struct journal_entry, postmaster.start_ticks),
	 .mandatory = true},
	{"boot_id", JSON_STRING, offsetof(struct journal_entry, boot_id), .mandatory = true},
	{"written_realtime_ns", JSON_UINT64, offsetof(struct journal_entry, written_realtime_ns),
	 .mandatory = true},
	{"undo", JSON_ANY, offsetof(struct journal_entry, undo), .mandatory = true},
	JSON_FIELD_END,
};

void journal_entry_free(struct journal_entry *e)
{
	if (!e)
		return;
	free(e->experiment);
	free(e->run);
	free(e->fault);
	free(e->instance);
	free(e->boot_id);
	cJSON_Delete(e->undo);
	free(e);
}

static bool has_suffix(const char *name, const char *suffix)
{
	size_t n = strlen(name), s = strlen(suffix);

	return n > s && strcmp(name + n - s, suffix) == 0;
}

/* What is in there is undone with all rights, so nobody else may put anything in. */
static int journal_check_owner(struct journal *j, struct err **err)
{
	struct stat st;

	if (fstat(j->dir_fd, &st) < 0)
		return err_errno(err, errno, "journal %s", j->path);
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return err_set(err, EPERM,
			"journal %s belongs to user %u with mode %03o: it must belong to user %u and be "
			"writable by nobody else", j->path, st.st_uid, st.st_mode & 0777, geteuid());
	return 0;
}

static int journal_lock(struct journal *j, struct err **err)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	j->lock_fd = openat(j->dir_fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (j->lock_fd < 0)
		return err_errno(err, errno, "journal %s: open %s", j->path, LOCK_NAME);
	if (fcntl(j->lock_fd, F_SETLK, &lock) == 0)
		return 0;
	if (errno != EACCES && errno != EAGAIN)
		return err_errno(err, errno, "journal %s: lock", j->path);
	/* The kernel itself says who holds it; nothing needs writing, so a full disk is no matter. */
	if (fcntl(j->lock_fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0)
		return err_set(err, EBUSY, "journal %s is in use by the agent with pid %d", j->path,
			(int)lock.l_pid);
	return err_set(err, EBUSY, "journal %s is in use by another agent", j->path);
}

/* The folder's names that pass, in a NULL-terminated list (NULL: none). */
static int journal_names(struct journal *j, bool (*wanted)(const char *name), char ***ret,
	struct err **err)
{
	_cleanup_strv_ char **names = NULL;
	struct dirent *d;
	DIR *dir;
	int fd, r;

	/* Opened anew: the position of a duplicate would be shared. */
	fd = openat(j->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "journal %s: open", j->path);
	dir = fdopendir(fd);
	if (!dir) {
		r = err_errno(err, errno, "journal %s: read", j->path);
		close(fd);
		return r;
	}
	while (errno = 0, (d = readdir(dir))) {
		char *name;

		if (!wanted(d->d_name))
			continue;
		name = strdup(d->d_name);
		if (!name)
			break;
		strv_push(&names, name);
	}
	r = errno ? err_errno(err, errno, "journal %s: read", j->path) : 0;
	closedir(dir);
	if (r < 0)
		return r;
	*ret = steal_ptr(names);
	return 0;
}

static bool name_is_entry(const char *name)
{
	return name[0] != '.' && has_suffix(name, ENTRY_SUFFIX);
}

static bool name_is_bad(const char *name)
{
	return has_suffix(name, BAD_SUFFIX);
}

static bool name_is_leftover(const char *name)
{
	return name[0] == '.' && has_suffix(name, ".tmp");
}

/* Temporary files of durable_write(): renamed before a fault is fired, so these stand for none. */
static int journal_sweep(struct journal *j, struct err **err)
{
	_cleanup_strv_ char **names = NULL;
	int r;

	r = journal_names(j, name_is_leftover, &names, err);
	if (r < 0)
		return r;
	for (size_t i = 0; names && names[i]; i++)
		if (unlinkat(j->dir_fd, names[i], 0) < 0 && errno != ENOENT)
			return err_errno(err, errno, "journal %s: remove %s", j->path, names[i]);
	return 0;
}

int journal_open(const char *path, struct journal **ret, struct err **err)
{
	struct journal *j;
	int r;

	r = folder_create(path, 0700, err);
	if (r < 0)
		return err_wrap(err, r, "journal %s", path);
	j = calloc(1, sizeof(*j));
	if (!j)
		return err_set(err, ENOMEM, "no memory");
	j->lock_fd = -1;
	j->path = strdup(path);
	j->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!j->path || j->dir_fd < 0)
		r = err_errno(err, errno, "journal %s: open", path);
	else
		r = journal_check_owner(j, err);
	if (r >= 0)
		r = journal_lock(j, err);
	if (r >= 0)
		r = journal_sweep(j, err);
	if (r < 0) {
		journal_close(j);
		return r;
	}
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	closep(&j->lock_fd);
	closep(&j->dir_fd);
	free(j->path);
	free(j);
}

int journal_folder(const struct journal *j)
{
	return j->dir_fd;
}

static int entry_name(const char *experiment, const char *suffix, char **ret, struct err **err)
{
	char *name;

	if (!id_is_valid(experiment))
		return err_set(err, EINVAL, "journal: '%s' is no id of an experiment", experiment);
	if (asprintf(&name, "%s%s", experiment, suffix) < 0)
		return err_set(err, ENOMEM, "no memory");
	*ret = name;
	return 0;
}

int journal_write(struct journal *j, const struct journal_entry *e, struct err **err)
{
	_cleanup_json_ cJSON *json = json_object();
	_cleanup_free_ char *name = NULL, *text = NULL;
	int r;

	r = entry_name(e->experiment, ENTRY_SUFFIX, &name, err);
	if (r < 0)
		return r;
	json_add_string(json, "experiment", e->experiment);
	json_add_string(json, "run", e->run);
	json_add_string(json, "fault", e->fault);
	json_add_string(json, "instance", e->instance);
	json_add_int(json, "pid", e->postmaster.pid);
	json_add_uint(json, "start_ticks", e->postmaster.start_ticks);
	json_add_string(json, "boot_id", e->boot_id);
	json_add_uint(json, "written_realtime_ns", e->written_realtime_ns);
	json_add_item(json, "undo", e->undo ? cJSON_Duplicate(e->undo, true) : json_object());
	text = json_print_pretty(json);
	r = durable_write(j->dir_fd, name, text, strlen(text), 0600, err);
	if (r < 0)
		return err_wrap(err, r, "journal %s", j->path);
	return 0;
}

int journal_remove(struct journal *j, const char *experiment, struct err **err)
{
	_cleanup_free_ char *name = NULL;
	int r;

	r = entry_name(experiment, ENTRY_SUFFIX, &name, err);
	if (r < 0)
		return r;
	r = durable_remove(j->dir_fd, name, err);
	if (r < 0)
		return err_wrap(err, r, "journal %s", j->path);
	return 0;
}

int journal_set_aside(struct journal *j, const char *experiment, struct err **err)
{
	_cleanup_free_ char *name = NULL, *bad = NULL;
	int r;

	r = entry_name(experiment, ENTRY_SUFFIX, &name, err);
	if (r >= 0)
		r = entry_name(experiment, BAD_SUFFIX, &bad, err);
	if (r < 0)
		return r;
	if (renameat(j->dir_fd, name, j->dir_fd, bad) < 0)
		return err_errno(err, errno, "journal %s: rename %s to %s", j->path, name, bad);
	return 0;
}

static int entry_read(struct journal *j, const char *name, struct journal_entry **ret,
	struct err **err)
{
	_cleanup_(journal_entry_freep) struct journal_entry *e = NULL;
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_free_ char *text = NULL;
	size_t length;
	int r;

	r = file_read(j->dir_fd, name, ENTRY_MAX_BYTES, &text, &length, err);
	if (r < 0)
		return r;
	r = json_parse(text, length, &json, err);
	if (r < 0)
		return r;
	e = calloc(1, sizeof(*e));
	if (!e)
		return err_set(err, ENOMEM, "no memory");
	r = json_dispatch(json, entry_fields, e, JSON_REFUSE_UNKNOWN, err);
	if (r < 0)
		return r;
	if (!id_is_valid(e->experiment) ||
	    strncmp(name, e->experiment, strlen(e->experiment)) != 0 ||
	    strcmp(name + strlen(e->experiment), ENTRY_SUFFIX) != 0)
		return err_set(err, EINVAL, "it is not the entry that its name says");
	if (!cJSON_IsObject(e->undo))
		return err_set(err, EINVAL, "undo: expected an object");
	*ret = steal_ptr(e);
	return 0;
}

/* Where it cannot be renamed (a read-only disk), it still counts as bad under its old name. */
static int keep_aside(struct journal *j, const char *name, char ***bad, struct err **err)
{
	_cleanup_free_ char *aside = NULL;

	if (asprintf(&aside, "%s.bad", name) < 0)
		return err_set(err, ENOMEM, "no memory");
	if (renameat(j->dir_fd, name, j->dir_fd, aside) < 0) {
		free(aside);
		aside = strdup(name);
		if (!aside)
			return err_set(err, ENOMEM, "no memory");
	}
	strv_push(bad, steal_ptr(aside));
	return 0;
}

static void entries_free(struct journal_entry **entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		journal_entry_free(entries[i]);
	free(entries);
}

int journal_read_all(struct journal *j, struct journal_entry ***ret, size_t *ret_count,
	char ***ret_bad, struct err **err)
{
	_cleanup_strv_ char **names = NULL, **bad = NULL;
	struct journal_entry **entries;
	size_t count = 0;
	int r;

	r = journal_names(j, name_is_bad, &bad, err);
	if (r >= 0)
		r = journal_names(j, name_is_entry, &names, err);
	if (r < 0)
		return r;
	entries = calloc(strv_length(names) + 1, sizeof(*entries));
	if (!entries)
		return err_set(err, ENOMEM, "no memory");
	for (size_t i = 0; names && names[i]; i++) {
		r = entry_read(j, names[i], &entries[count], NULL);
		if (r >= 0) {
			count++;
			continue;
		}
		if (r == -ENOMEM)
			r = err_set(err, ENOMEM, "no memory");
		else
			r = keep_aside(j, names[i], &bad, err);
		if (r < 0) {
			entries_free(entries, count);
			return r;
		}
	}
	*ret = entries;
	*ret_count = count;
	*ret_bad = steal_ptr(bad);
	return 0;
}

int journal_discard_bad(struct journal *j, size_t *ret_count, struct err **err)
{
	_cleanup_strv_ char **names = NULL;
	size_t count = 0;
	int r;

	r = journal_names(j, name_is_bad, &names, err);
	if (r < 0)
		return r;
	for (; names && names[count]; count++) {
		r = durable_remove(j->dir_fd, names[count], err);
		if (r < 0)
			return err_wrap(err, r, "journal %s", j->path);
	}
	*ret_count = count;
	return 0;
}
