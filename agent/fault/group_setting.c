#include "fault/group_setting.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"

#define FILE_BYTES_MAX (64UL << 10)
#define TEXT_BYTES_MAX 256

static void setting_done(struct group_setting *s)
{
	free(s->file);
	free(s->key);
	free(s->absent);
	free(s->before);
	free(s->wanted);
	*s = (struct group_setting){0};
}

void group_settings_done(struct group_settings *s)
{
	for (size_t i = 0; i < s->count; i++)
		setting_done(&s->list[i]);
	free(s->folder);
	closep(&s->lock_fd);
	*s = (struct group_settings){.lock_fd = -1};
}

static bool is_gone(int r)
{
	return r == -ENOENT || r == -ENODEV;
}

/* A name in the group's folder, never a way out of it. */
static int open_in(const char *folder, const char *file, int flags, int *ret_fd, struct err **err)
{
	_cleanup_free_ char *path = NULL;
	int fd;

	if (strchr(file, '/') || asprintf(&path, "%s/%s", folder, file) < 0) {
		path = NULL;
		return err_set(err, EINVAL, "\"%s\" is no file of a control group", file);
	}
	fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	*ret_fd = fd;
	return 0;
}

static int read_all(const char *folder, const char *file, char **ret, struct err **err)
{
	_cleanup_free_ char *text = malloc(FILE_BYTES_MAX + 1);
	_cleanup_close_ int fd = -1;
	size_t length = 0;
	ssize_t n;
	int r;

	if (!text)
		return err_errno(err, ENOMEM, "read %s", file);
	r = open_in(folder, file, O_RDONLY, &fd, err);
	if (r < 0)
		return r;
	while ((n = read(fd, text + length, FILE_BYTES_MAX - length)) > 0)
		length += (size_t)n;
	if (n < 0)
		return err_errno(err, errno, "read %s/%s", folder, file);
	text[length] = '\0';
	*ret = steal_ptr(text);
	return 0;
}

int group_setting_read(const char *folder, const char *file, const char *key, const char *absent,
	char **ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	char *line, *save = NULL;
	size_t n = key ? strlen(key) : 0;
	int r;

	r = read_all(folder, file, &text, err);
	if (r < 0)
		return r;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!key || (strncmp(line, key, n) == 0 && line[n] == ' '))
			break;
	if (!line && !absent)
		return err_set(err, EIO, "%s/%s is empty", folder, file);
	*ret = strdup(line ? line + (key ? n + 1 : 0) : absent);
	return *ret ? 0 : err_errno(err, ENOMEM, "read %s", file);
}

static int setting_write(const char *folder, const struct group_setting *s, const char *value,
	struct err **err)
{
	char text[TEXT_BYTES_MAX * 2];
	_cleanup_close_ int fd = -1;
	int r;

	snprintf(text, sizeof(text), "%s%s%s", s->key ? s->key : "", s->key ? " " : "", value);
	r = open_in(folder, s->file, O_WRONLY, &fd, err);
	if (r < 0)
		return r;
	if (write(fd, text, strlen(text)) < 0)
		return err_errno(err, errno, "write \"%s\" to %s/%s", text, folder, s->file);
	return 0;
}

int group_settings_open(const char *folder, const char *lock, struct group_settings *ret,
	struct err **err)
{
	_cleanup_(group_settings_done) struct group_settings s = {.lock_fd = -1};
	struct stat st;
	int r;

	s.folder = strdup(folder);
	if (!s.folder)
		return err_errno(err, ENOMEM, "name a control group");
	if (stat(folder, &st) < 0)
		return err_errno(err, errno, "look at %s", folder);
	s.inode = st.st_ino;
	r = open_in(folder, lock, O_RDONLY, &s.lock_fd, err);
	if (r < 0)
		return r;
	/* Overlapping faults that end in another order than they began would restore each other. */
	if (flock(s.lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ?
			err_set(err, EBUSY, "another fault holds %s/%s", folder, lock) :
			err_errno(err, errno, "lock %s/%s", folder, lock);
	*ret = s;
	s = (struct group_settings){.lock_fd = -1};
	return 0;
}

int group_settings_add(struct group_settings *s, const char *file, const char *key, const char *absent,
	const char *wanted, struct err **err)
{
	struct group_setting *x = &s->list[s->count];
	int r;

	if (s->count == GROUP_SETTINGS_MAX)
		return err_set(err, E2BIG, "too many settings of a control group");
	s->count++;
	x->file = strdup(file);
	x->key = key ? strdup(key) : NULL;
	x->wanted = strdup(wanted);
	x->absent = absent ? strdup(absent) : NULL;
	if (!x->file || (key && !x->key) || (absent && !x->absent) || !x->wanted)
		return err_errno(err, ENOMEM, "keep a setting");
	r = group_setting_read(s->folder, file, key, absent, &x->before, err);
	if (r >= 0 && strlen(x->before) > TEXT_BYTES_MAX - 1)
		r = err_set(err, EIO, "%s/%s: a line that is too long", s->folder, file);
	return r;
}

static int matches_before(const char *folder, const struct group_setting *s, bool *ret,
	struct err **err)
{
	_cleanup_free_ char *now = NULL;
	int r;

	r = group_setting_read(folder, s->file, s->key, s->absent, &now, err);
	if (r >= 0)
		*ret = strcmp(now, s->before) == 0;
	return r;
}

/* Is that very group still there? */
static bool is_there(const struct group_settings *s)
{
	struct stat st;

	return stat(s->folder, &st) == 0 && st.st_ino == s->inode;
}

int group_settings_apply(const struct group_settings *s, struct err **err)
{
	bool same;
	int r;

	/* In another group of its name nothing would be undone. */
	if (!is_there(s))
		return err_set(err, ESTALE, "the control group is gone: %s", s->folder);
	for (size_t i = 0; i < s->count; i++) {
		r = matches_before(s->folder, &s->list[i], &same, err);
		if (r < 0)
			return is_gone(r) ? err_wrap(err, ESTALE, "the control group is gone") : r;
		if (!same)
			return err_set(err, EBUSY, "%s/%s was changed since the fault was armed",
				s->folder, s->list[i].file);
	}
	for (size_t i = 0; i < s->count; i++) {
		r = setting_write(s->folder, &s->list[i], s->list[i].wanted, err);
		if (r < 0)
			return is_gone(r) ? err_wrap(err, ESTALE, "the control group is gone") : r;
	}
	return 0;
}

int group_settings_fire(const struct group_settings *s, const struct fault *f, struct err **err)
{
	const char *name = f->driver->spec->name;
	int r;

	node_point(f->node, name, "writing");
	r = group_settings_apply(s, err);
	node_point(f->node, name, "written");
	return r;
}

cJSON *group_settings_record(const struct group_settings *s)
{
	cJSON *record = json_object(), *list = json_array();

	json_add_string(record, "folder", s->folder);
	json_add_uint(record, "inode", s->inode);
	json_add_item(record, "settings", list);
	for (size_t i = 0; i < s->count; i++) {
		cJSON *item = json_object();

		json_add_string(item, "file", s->list[i].file);
		json_add_string(item, "key", s->list[i].key);
		json_add_string(item, "absent", s->list[i].absent);
		json_add_string(item, "before", s->list[i].before);
		json_append(list, item);
	}
	return record;
}

static bool is_text(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n < TEXT_BYTES_MAX && !strpbrk(s, "\n\r");
}

static int read_list(const cJSON *list, struct group_settings *ret, struct err **err)
{
	static const struct json_field fields[] = {
		{"file", JSON_STRING, offsetof(struct group_setting, file), .mandatory = true},
		{"key", JSON_STRING, offsetof(struct group_setting, key), .mandatory = false},
		{"absent", JSON_STRING, offsetof(struct group_setting, absent), .mandatory = false},
		{"before", JSON_STRING, offsetof(struct group_setting, before), .mandatory = true},
		JSON_FIELD_END,
	};
	const cJSON *item;

	cJSON_ArrayForEach(item, list) {
		struct group_setting *x = &ret->list[ret->count];
		int r;

		if (ret->count == GROUP_SETTINGS_MAX)
			return err_set(err, EINVAL, "too many settings");
		ret->count++;
		r = json_dispatch(item, fields, x, JSON_REFUSE_UNKNOWN, err);
		if (r < 0)
			return r;
		if (!is_text(x->before) || !is_text(x->file) || strchr(x->file, '/') ||
		    !x->key != !x->absent || (x->key && !is_text(x->key)))
			return err_set(err, EINVAL, "a setting that no control group has");
	}
	return 0;
}

static int read_record(const cJSON *record, struct group_settings *ret, struct err **err)
{
	static const struct json_field fields[] = {
		{"folder", JSON_STRING, offsetof(struct group_settings, folder), .mandatory = true},
		{"inode", JSON_UINT64, offsetof(struct group_settings, inode), .mandatory = true},
		JSON_FIELD_END,
	};
	const cJSON *list = json_get(record, "settings");
	int r;

	ret->lock_fd = -1;
	r = json_dispatch(record, fields, ret, JSON_ALLOW_UNKNOWN, err);
	if (r >= 0 && (!cJSON_IsArray(list) || ret->folder[0] != '/'))
		r = err_set(err, EINVAL, "no settings of a control group");
	if (r >= 0)
		r = read_list(list, ret, err);
	return r < 0 ? err_wrap(err, EBADMSG, "record of a control group's settings") : 0;
}

int group_settings_revert(const struct undo *u, struct err **err)
{
	_cleanup_(group_settings_done) struct group_settings s = {.lock_fd = -1};
	int r;

	r = read_record(u->record, &s, err);
	for (size_t i = 0; i < s.count && r >= 0 && is_there(&s); i++) {
		struct err *why = NULL;
		bool same = false;

		r = matches_before(s.folder, &s.list[i], &same, &why);
		if (r >= 0 && !same)
			r = setting_write(s.folder, &s.list[i], s.list[i].before, &why);
		if (r < 0 && (is_gone(r) || !is_there(&s)))
			r = 0;
		if (r < 0)
			err_set(err, r, "%s", err_text(why));
		err_free(why);
	}
	return r;
}

int group_settings_verify(const struct undo *u, struct err **err)
{
	_cleanup_(group_settings_done) struct group_settings s = {.lock_fd = -1};
	int r;

	r = read_record(u->record, &s, err);
	for (size_t i = 0; i < s.count && r >= 0 && is_there(&s); i++) {
		struct err *why = NULL;
		bool same = true;

		r = matches_before(s.folder, &s.list[i], &same, &why);
		if (r < 0 && (is_gone(r) || !is_there(&s)))
			r = 0;
		if (r < 0)
			err_set(err, r, "%s", err_text(why));
		else if (!same)
			r = err_set(err, EBUSY, "%s/%s is not as it was before", s.folder,
				s.list[i].file);
		err_free(why);
	}
	return r;
}
