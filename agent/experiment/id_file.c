#include "experiment/id_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/durable.h"
#include "core/wire.h"

#define LINES_MAX (2 * ID_MEMORY_GENERATION)	/* then the older half goes */
#define LINE_MAX_BYTES 96
#define READ_MAX_BYTES (4UL << 20)

struct id_file {
	int folder, fd;			/* fd -1: it could not be opened */
	size_t lines;
	off_t length;
};

/* "1785312345 run-1-x" -> its id, which ends where the line does. */
static const char *line_id(char *line)
{
	size_t digits = strspn(line, "0123456789");

	if (digits == 0 || digits > 12 || line[digits] != ' ' || !id_is_valid(line + digits + 1))
		return NULL;
	return line + digits + 1;
}

/* Moves the lines that are whole to the front of text, each with its end; text holds NULs where a hostile
 * hand put them. Returns how many are left, *ret_bad how many are not. */
static size_t lines_sift(char *text, size_t length, size_t *ret_kept_bytes, size_t *ret_bad)
{
	size_t lines = 0, kept = 0, bad = 0;

	for (size_t at = 0; at < length;) {
		char *end = memchr(text + at, '\n', length - at);
		size_t n = end ? (size_t)(end - (text + at)) : length - at;

		text[at + n] = '\0';
		/* Without its end it was cut off while it was written. */
		if (end && strlen(text + at) == n && line_id(text + at)) {
			memmove(text + kept, text + at, n);
			text[kept + n] = '\n';
			kept += n + 1;
			lines++;
		} else {
			bad++;
		}
		at += n + 1;
	}
	*ret_kept_bytes = kept;
	*ret_bad = bad;
	return lines;
}

/* Where the last `most` of the lines begin. */
static const char *lines_last(const char *text, size_t lines, size_t most)
{
	for (; lines > most; lines--)
		text = strchr(text, '\n') + 1;
	return text;
}

static void remember(struct id_memory *m, const char *text, size_t lines)
{
	for (size_t i = 0; i < lines; i++) {
		char line[LINE_MAX_BYTES];
		size_t n = strcspn(text, "\n");
		const char *id;

		snprintf(line, sizeof(line), "%.*s", (int)n, text);
		id = line_id(line);
		if (id)
			id_memory_add(m, id);
		text += n + 1;
	}
}

/* What the file holds, sifted. 0 with *ret "" where there is none. */
static int file_sift(struct id_file *f, char **ret, size_t *ret_bad, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_err_ struct err *why = NULL;
	size_t length = 0, kept = 0;
	int r;

	r = file_read(f->folder, ID_FILE_NAME, READ_MAX_BYTES, &text, &length, &why);
	*ret_bad = 0;
	f->lines = 0;
	if (r == -ENOENT) {
		text = strdup("");
		if (!text)
			return err_set(err, ENOMEM, "no memory");
	} else if (r < 0) {
		return err_set(err, r, "%s", err_text(why));
	} else {
		f->lines = lines_sift(text, length, &kept, ret_bad);
		text[kept] = '\0';
	}
	*ret = steal_ptr(text);
	return 0;
}

static int file_attach(struct id_file *f, struct err **err)
{
	struct stat st;

	if (f->fd >= 0)
		close(steal_fd(&f->fd));
	f->fd = openat(f->folder, ID_FILE_NAME, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (f->fd < 0 || fstat(f->fd, &st) < 0)
		return err_errno(err, errno, "open %s", ID_FILE_NAME);
	f->length = st.st_size;
	return 0;
}

/* The last lines of text are the file from now on. */
static int file_replace(struct id_file *f, const char *text, struct err **err)
{
	const char *last = lines_last(text, f->lines, ID_MEMORY_GENERATION);
	int r;

	r = durable_write(f->folder, ID_FILE_NAME, last, strlen(last), 0600, err);
	if (r < 0)
		return r;
	if (f->lines > ID_MEMORY_GENERATION)
		f->lines = ID_MEMORY_GENERATION;
	return file_attach(f, err);
}

static char *damage_words(size_t bad, const struct err *unreadable, const struct err *unwritable)
{
	char *words;
	int n;

	if (unreadable)
		n = asprintf(&words, "the ids that served before are not known, a request of then could serve "
			"again: %s%s%s", err_text(unreadable), unwritable ? "; " : "",
			unwritable ? err_text(unwritable) : "");
	else if (bad)
		n = asprintf(&words, "%zu damaged %s of file %s in the journal left out: a request of then could "
			"serve again%s%s", bad, bad == 1 ? "line" : "lines", ID_FILE_NAME,
			unwritable ? "; " : "", unwritable ? err_text(unwritable) : "");
	else
		n = asprintf(&words, "the ids that serve from now on cannot be kept: %s", err_text(unwritable));
	return n < 0 ? NULL : words;
}

int id_file_open(int folder, struct id_memory *m, struct id_file **ret, char **ret_damage, struct err **err)
{
	_cleanup_err_ struct err *unreadable = NULL, *unwritable = NULL;
	_cleanup_free_ char *text = NULL;
	struct id_file *f = calloc(1, sizeof(*f));
	size_t bad = 0;
	bool whole;

	*ret_damage = NULL;
	if (!f)
		return err_set(err, ENOMEM, "no memory");
	f->folder = folder;
	f->fd = -1;
	if (file_sift(f, &text, &bad, &unreadable) >= 0)
		remember(m, text, f->lines);
	whole = text && !bad && f->lines > 0 && f->lines < LINES_MAX;
	if (whole)
		(void)file_attach(f, &unwritable);
	else
		(void)file_replace(f, text ? text : "", &unwritable);
	if (unreadable || bad || unwritable)
		*ret_damage = damage_words(bad, unreadable, unwritable);
	*ret = f;
	return 0;
}

void id_file_free(struct id_file *f)
{
	if (!f)
		return;
	closep(&f->fd);
	free(f);
}

/* Reads what is there and writes its newer part anew. */
static int file_mend(struct id_file *f, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	size_t bad;

	if (file_sift(f, &text, &bad, NULL) < 0)
		f->lines = 0;
	return file_replace(f, text ? text : "", err);
}

int id_file_add(struct id_file *f, const char *id, struct err **err)
{
	char line[LINE_MAX_BYTES];
	int n = snprintf(line, sizeof(line), "%" PRIu64 " %s\n", (uint64_t)(realtime_ns() / NS_PER_S), id);
	ssize_t written;
	int r;

	if (n < 0 || (size_t)n >= sizeof(line))
		return err_set(err, EINVAL, "'%s' is no id", id);
	if (f->fd < 0 || f->lines >= LINES_MAX) {
		r = file_mend(f, err);
		if (r < 0)
			return r;
	}
	written = write(f->fd, line, (size_t)n);
	if (written == n && fdatasync(f->fd) == 0) {
		f->length += n;
		f->lines++;
		return 0;
	}
	r = written >= 0 && written < n ? ENOSPC : errno;
	/* No half of a line before the next one. */
	if (ftruncate(f->fd, f->length) < 0)
		close(steal_fd(&f->fd));
	return err_errno(err, r, "write %s", ID_FILE_NAME);
}
