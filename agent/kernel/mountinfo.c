#include "kernel/mountinfo.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/proc.h"

#define MOUNTINFO_MAX (4UL << 20)

void mount_entry_done(struct mount_entry *m)
{
	free(m->point);
	free(m->type);
	free(m->source);
	*m = (struct mount_entry){0};
}

static bool is_octal(const char *s)
{
	for (int i = 0; i < 3; i++)
		if (s[i] < '0' || s[i] > '7')
			return false;
	return true;
}

/* The word at *at, its octal escapes (\040) undone; NULL where there is none. */
static char *next_word(const char **at)
{
	const char *s = *at + strspn(*at, " ");
	size_t n = strcspn(s, " "), length = 0;
	char *word = n ? malloc(n + 1) : NULL;

	*at = s + n;
	for (size_t i = 0; word && i < n; i++) {
		if (s[i] == '\\' && n - i > 3 && is_octal(s + i + 1)) {
			word[length++] = (char)((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 + s[i + 3] - '0');
			i += 3;
		} else {
			word[length++] = s[i];
		}
	}
	if (word)
		word[length] = '\0';
	return word;
}

int mount_parse(const char *line, struct mount_entry *ret, struct err **err)
{
	_cleanup_(mount_entry_done) struct mount_entry m = {0};
	const char *tail = strstr(line, " - ");
	unsigned high, low;
	int at = 0;

	if (!tail || sscanf(line, "%" SCNu64 " %*u %u:%u %*s%n", &m.id, &high, &low, &at) != 3 || !at)
		return err_set(err, EINVAL, "no line of a mount: %.64s", line);
	line += at;
	m.dev = makedev(high, low);
	m.point = next_word(&line);
	while (line < tail) {
		_cleanup_free_ char *word = next_word(&line);

		m.shared |= word && strncmp(word, "shared:", 7) == 0;
	}
	line = tail + 3;
	m.type = next_word(&line);
	m.source = next_word(&line);
	if (!m.point || !m.type || !m.source)
		return err_set(err, EINVAL, "the line of mount %" PRIu64 " is cut", m.id);
	*ret = m;
	m = (struct mount_entry){0};
	return 0;
}

/* source NULL: by the id. */
static int find(pid_t pid, uint64_t id, const char *source, struct mount_entry *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	char *line, *save = NULL;
	size_t length;
	int r;

	r = proc_read_file(pid, "mountinfo", MOUNTINFO_MAX, &text, &length, err);
	if (r < 0)
		return r;
	/* What is cut off says nothing of what is not there. */
	if (length >= MOUNTINFO_MAX)
		return err_set(err, EFBIG, "process %d sees more mounts than are read (%lu bytes)", (int)pid,
			MOUNTINFO_MAX);
	if (source && !strstr(text, source))
		return -ENOENT;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		_cleanup_(mount_entry_done) struct mount_entry m = {0};

		if (source ? !strstr(line, source) : strtoull(line, NULL, 10) != id)
			continue;
		r = mount_parse(line, &m, err);
		if (r < 0)
			return r;
		if (source && strcmp(m.source, source) != 0)
			continue;
		*ret = m;
		m = (struct mount_entry){0};
		return 0;
	}
	return -ENOENT;
}

int mount_find(pid_t pid, uint64_t id, struct mount_entry *ret, struct err **err)
{
	int r = find(pid, id, NULL, ret, err);

	return r == -ENOENT ? err_set(err, EIO, "mount %" PRIu64 " is not among those of process %d", id,
				      (int)pid) : r;
}

int mount_find_source(pid_t pid, const char *source, struct mount_entry *ret, struct err **err)
{
	int r = find(pid, 0, source, ret, err);

	return r == -ENOENT ? err_set(err, ENOENT, "process %d sees no mount of %s", (int)pid, source) : r;
}

/* A data set is a superblock of its own: "pool/set". */
static bool is_same_pool(const struct mount_entry *a, const struct mount_entry *b)
{
	size_t n = strcspn(a->source, "/");

	return strcmp(a->type, "zfs") == 0 && strcmp(b->type, "zfs") == 0 &&
	       n == strcspn(b->source, "/") && strncmp(a->source, b->source, n) == 0;
}

bool mount_shares_space(const struct mount_entry *a, const struct mount_entry *b)
{
	return a->dev == b->dev || is_same_pool(a, b);
}

int mount_of(int fd, uint64_t *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	const char *line;
	char name[32];
	size_t length;
	int r;

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	r = proc_read_file(getpid(), name, 4096, &text, &length, err);
	if (r < 0)
		return r;
	line = strstr(text, "mnt_id:");
	if (!line || sscanf(line, "mnt_id: %" SCNu64, ret) != 1)
		return err_set(err, EIO, "the kernel does not tell the mount of a file");
	return 0;
}
