#include "instance/settings.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "core/cleanup.h"
#include "core/json.h"
#include "kernel/proc.h"
#include "kernel/root.h"

#define FILE_MAX    (1UL << 20)
#define FILES_MAX   200
#define DEPTH_MAX   10		/* CONF_FILE_MAX_DEPTH */
#define COMMAND_MAX (64UL << 10)

struct reading {
	const struct instance_info *instance;
	struct setting *list;
	size_t count;
	unsigned files;
};

void settings_done(struct setting *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(list[i].value);
		list[i].value = NULL;
	}
}

void setting_line_done(struct setting_line *l)
{
	free(l->name);
	free(l->value);
	*l = (struct setting_line){0};
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static bool is_of_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
	       c == '.' || c == '$' || (unsigned char)c >= 0x80;
}

static const char *skip(const char *s)
{
	while (is_blank(*s))
		s++;
	return s;
}

static char unescape(const char **at)
{
	const char *s = *at;
	char c = *s++;

	if (c >= '0' && c <= '7') {
		unsigned n = (unsigned)(c - '0');

		for (int i = 0; i < 2 && *s >= '0' && *s <= '7'; i++)
			n = n * 8 + (unsigned)(*s++ - '0');
		*at = s;
		return (char)n;
	}
	*at = s;
	return c == 'b' ? '\b' : c == 'f' ? '\f' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
}

/* What is in quotes, from behind the first one; *at: behind the last. NULL where there is none. */
static char *quoted(const char **at)
{
	const char *s = *at;
	char *text = malloc(strlen(s) + 1);
	size_t n = 0;

	while (text && *s) {
		if (*s == '\\' && s[1]) {
			s++;
			text[n++] = unescape(&s);
		} else if (*s == '\'' && s[1] != '\'') {
			text[n] = '\0';
			*at = s + 1;
			return text;
		} else {
			s += *s == '\'';
			text[n++] = *s++;
		}
	}
	free(text);
	return NULL;
}

int setting_line_parse(const char *line, struct setting_line *ret)
{
	struct setting_line l = {0};
	const char *s = skip(line), *start = s;

	while (is_of_name(*s))
		s++;
	if (s == start)
		return 0;
	l.name = strndup(start, (size_t)(s - start));
	s = skip(s);
	if (*s == '=')
		s = skip(s + 1);
	if (*s == '\'') {
		s++;
		l.value = quoted(&s);
	} else {
		size_t n = strcspn(s, " \t\r#'=");

		l.value = n ? strndup(s, n) : NULL;
		s += n;
	}
	s = skip(s);
	if (!l.name || !l.value || (*s && *s != '#')) {
		setting_line_done(&l);
		return 0;
	}
	*ret = l;
	return 1;
}

int setting_bool(const char *text)
{
	static const struct {
		const char *word;
		size_t least;
		int value;
	} words[] = {{"true", 1, 1}, {"false", 1, 0}, {"yes", 1, 1}, {"no", 1, 0}, {"on", 2, 1},
		{"off", 2, 0}, {"1", 1, 1}, {"0", 1, 0}};
	size_t n = strlen(text);

	for (size_t i = 0; i < ELEMENTS(words); i++)
		if (n >= words[i].least && n <= strlen(words[i].word) &&
		    strncasecmp(text, words[i].word, n) == 0)
			return words[i].value;
	return -EINVAL;
}

/* Dashes count as underscores on a command line. */
static bool is_name(const char *a, const char *b, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		char c = a[i] == '-' ? '_' : a[i];

		if (strncasecmp(&c, &b[i], 1) != 0)
			return false;
	}
	return b[length] == '\0';
}

static int keep(struct reading *x, const char *name, size_t length, const char *value)
{
	for (size_t i = 0; i < x->count; i++) {
		char *copy;

		if (!is_name(name, x->list[i].name, length))
			continue;
		copy = strdup(value);
		if (!copy)
			return -ENOMEM;
		free(x->list[i].value);
		x->list[i].value = copy;
	}
	return 0;
}

static int read_file(struct reading *x, const char *path, unsigned depth, struct err **err);

/* Relative names start in the folder of the file that includes. */
static int full_name(const char *from, const char *name, char path[static PATH_MAX])
{
	const char *end = strrchr(from, '/');
	int n;

	if (name[0] == '/')
		n = snprintf(path, PATH_MAX, "%s", name);
	else
		n = snprintf(path, PATH_MAX, "%.*s/%s", end ? (int)(end - from) : 0, from, name);
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* NAME.conf, in the order of the C locale. */
static int list_folder(pid_t pid, const char *path, char ***ret, struct err **err)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	_cleanup_strv_ char **names = NULL;
	struct dirent *entry;
	int fd, r;

	r = root_open(pid, path, O_RDONLY | O_DIRECTORY, &fd, err);
	if (r < 0)
		return r;
	dir = fdopendir(fd);
	if (!dir) {
		closep(&fd);
		return err_errno(err, ENOMEM, "list %s", path);
	}
	while ((entry = readdir(dir)) && strv_length(names) < FILES_MAX) {
		size_t n = strlen(entry->d_name);
		char *name;

		if (n < 6 || entry->d_name[0] == '.' || strcmp(entry->d_name + n - 5, ".conf") != 0)
			continue;
		if (asprintf(&name, "%s/%s", path, entry->d_name) < 0)
			return err_errno(err, ENOMEM, "list %s", path);
		strv_push(&names, name);
	}
	if (names)
		qsort(names, strv_length(names), sizeof(*names), by_name);
	*ret = steal_ptr(names);
	return 0;
}

static int read_folder(struct reading *x, const char *path, unsigned depth, struct err **err)
{
	_cleanup_strv_ char **names = NULL;
	int r;

	r = list_folder(x->instance->pid, path, &names, err);
	for (size_t i = 0; r >= 0 && names && names[i]; i++)
		r = read_file(x, names[i], depth, err);
	return r;
}

static int take_line(struct reading *x, const char *from, const struct setting_line *l, unsigned depth,
	struct err **err)
{
	bool maybe = strcasecmp(l->name, "include_if_exists") == 0;
	bool folder = strcasecmp(l->name, "include_dir") == 0;
	char path[PATH_MAX];
	int r;

	if (!maybe && !folder && strcasecmp(l->name, "include") != 0) {
		r = keep(x, l->name, strlen(l->name), l->value);
		return r < 0 ? err_errno(err, r, "keep a setting") : 0;
	}
	r = full_name(from, l->value, path);
	if (r < 0)
		return err_errno(err, r, "%s: include", from);
	r = folder ? read_folder(x, path, depth + 1, err) : read_file(x, path, depth + 1, err);
	return r == -ENOENT && maybe ? 0 : r;
}

static int read_file(struct reading *x, const char *path, unsigned depth, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	char *line, *save = NULL;
	int r;

	if (depth > DEPTH_MAX || ++x->files > FILES_MAX)
		return err_set(err, EINVAL, "%s: files of settings include one another too often", path);
	r = root_read(x->instance->pid, path, FILE_MAX, &text, NULL, err);
	if (r < 0)
		return r;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct setting_line l = {0};

		if (setting_line_parse(line, &l) > 0)
			r = take_line(x, path, &l, depth, err);
		setting_line_done(&l);
		if (r < 0)
			return r;
	}
	return 0;
}

/* NAME=VALUE of "-c NAME=VALUE" or "--NAME=VALUE". */
static int take_word(struct reading *x, const char *word)
{
	const char *equal = strchr(word, '=');

	return equal ? keep(x, word, (size_t)(equal - word), equal + 1) : 0;
}


/* *ret_folder: what -D says; points into text. */
static int take_command(struct reading *x, const char *text, size_t length, const char **ret_folder)
{
	const char *end = text + length;
	int r = 0;

	for (const char *arg = text + strlen(text) + 1; arg < end && r >= 0; arg += strlen(arg) + 1) {
		const char *next = arg + strlen(arg) + 1;
		char flag = arg[0] == '-' ? arg[1] : '\0';

		if (flag == '-') {
			r = take_word(x, arg + 2);
		} else if (flag == 'c' || flag == 'D') {
			const char *value = arg[2] ? arg + 2 : next < end ? next : "";

			if (flag == 'c')
				r = take_word(x, value);
			else
				*ret_folder = value;
			if (!arg[2] && next < end)
				arg = next;
		} else if (strcmp(arg, "-l") == 0) {
			r = keep(x, "ssl", 3, "on");
		}
	}
	return r;
}

static const char *environment(const char *text, size_t length, const char *name)
{
	size_t n = strlen(name);

	for (const char *s = text; s < text + length; s += strlen(s) + 1)
		if (strncmp(s, name, n) == 0 && s[n] == '=')
			return s + n + 1;
	return NULL;
}

/* Where postgresql.conf is: said by config_file, else in the folder that -D or PGDATA names, which may
 * hold settings alone; else in the data directory. */
static int read_main(struct reading *x, const char *command, size_t length, struct err **err)
{
	struct setting file = {.name = "config_file"};
	struct reading own = {.instance = x->instance, .list = &file, .count = 1};
	_cleanup_free_ char *variables = NULL;
	const char *folder = NULL;
	char path[PATH_MAX];
	size_t n = 0;
	int r;

	r = take_command(&own, command, length, &folder);
	if (!folder && proc_read_file(x->instance->pid, "environ", COMMAND_MAX, &variables, &n, NULL) >= 0)
		folder = environment(variables, n, "PGDATA");
	if (r >= 0 && file.value && file.value[0] == '/') {
		r = read_file(x, file.value, 0, err);
		free(file.value);
		return r;
	}
	free(file.value);
	if (r >= 0 && folder && folder[0] == '/') {
		snprintf(path, sizeof(path), "%s/postgresql.conf", folder);
		r = read_file(x, path, 0, NULL);
		if (r != -ENOENT)
			return r < 0 ? err_errno(err, r, "read %s", path) : 0;
	}
	snprintf(path, sizeof(path), "%s/postgresql.conf", x->instance->pgdata);
	return read_file(x, path, 0, err);
}

int settings_read(const struct instance_info *i, struct setting *list, size_t count, struct err **err)
{
	struct reading x = {.instance = i, .list = list, .count = count};
	_cleanup_free_ char *command = NULL;
	const char *folder = NULL;
	char path[PATH_MAX];
	size_t length;
	int r;

	if (!i->pgdata)
		return err_set(err, EINVAL, "%s: its data directory is not known", i->name);
	r = proc_read_file(i->pid, "cmdline", COMMAND_MAX, &command, &length, err);
	if (r >= 0)
		r = read_main(&x, command, length, err);
	if (r >= 0) {
		snprintf(path, sizeof(path), "%s/postgresql.auto.conf", i->pgdata);
		r = read_file(&x, path, 0, err);
		r = r == -ENOENT ? 0 : r;
	}
	if (r >= 0 && take_command(&x, command, length, &folder) < 0)
		r = err_errno(err, ENOMEM, "read a command line");
	if (r < 0) {
		settings_done(list, count);
		return err_wrap(err, r, "settings of %s", i->name);
	}
	return 0;
}
