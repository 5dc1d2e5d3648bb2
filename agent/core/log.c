#include "core/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "core/cleanup.h"
#include "core/string_table.h"

static const char *const level_words[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

/* syslog(3) priorities, as the journal reads them at the start of a line. */
static const int level_priority[] = {
	[LOG_LEVEL_ERROR] = 3,
	[LOG_LEVEL_WARNING] = 4,
	[LOG_LEVEL_INFO] = 6,
	[LOG_LEVEL_DEBUG] = 7,
};

static enum log_level current = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	if (level < LOG_LEVEL_MAX)
		__atomic_store_n(&current, level, __ATOMIC_RELAXED);
}

enum log_level log_get_level(void)
{
	return __atomic_load_n(&current, __ATOMIC_RELAXED);
}

int log_level_from_string(const char *s, enum log_level *ret)
{
	int i = string_table_from(level_words, ELEMENTS(level_words), s);

	if (i < 0)
		return i;
	*ret = (enum log_level)i;
	return 0;
}

/* JOURNAL_STREAM is "DEVICE:INODE" of what the journal gave as stderr (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2)
		return false;
	return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ char *line = NULL;
	int saved = errno;
	va_list args;
	int n;

	if (level >= LOG_LEVEL_MAX || level > log_get_level())
		return;
	va_start(args, fmt);
	n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0) {
		text = NULL;
		return;
	}
	/* What comes from /proc or a client must not forge a second line or drive a terminal. */
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = *p == '\n' || *p == '\t' ? ' ' : '?';
	if (stderr_is_journal())
		n = asprintf(&line, "<%d>%s\n", level_priority[level], text);
	else
		n = asprintf(&line, "%s: %s\n", level_words[level], text);
	if (n < 0) {
		line = NULL;
		return;
	}
	/* One write, so that lines of several processes do not mix. */
	if (write(STDERR_FILENO, line, (size_t)n) < 0) {
		/* Nowhere left to say it. */
	}
	errno = saved;
}
