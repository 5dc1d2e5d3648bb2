#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/log.h"

/* stderr goes into a pipe from here on. */
static int capture(void)
{
	int fds[2];

	cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	cr_assert_geq(dup2(fds[1], STDERR_FILENO), 0);
	close(fds[1]);
	return fds[0];
}

static const char *captured(int fd, char *buf, size_t size)
{
	ssize_t n = read(fd, buf, size - 1);

	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

Test(log, one_line_a_message_with_its_level)
{
	char buf[256];
	int fd;

	unsetenv("JOURNAL_STREAM");
	fd = capture();
	log_warning("disk %d%% full", 93);
	cr_assert_str_eq(captured(fd, buf, sizeof(buf)), "warning: disk 93% full\n");
}

Test(log, control_characters_cannot_forge_lines)
{
	char buf[256];
	int fd;

	unsetenv("JOURNAL_STREAM");
	fd = capture();
	log_error("pid 7\nerror: all is lost\x1b[2J\r\x7f");
	cr_assert_str_eq(captured(fd, buf, sizeof(buf)), "error: pid 7 error: all is lost?[2J??\n");
}

Test(log, level_hides_what_is_below)
{
	char buf[256];
	int fd;

	unsetenv("JOURNAL_STREAM");
	fd = capture();
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("no");
	log_info("no");
	cr_assert_str_eq(captured(fd, buf, sizeof(buf)), "");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("yes");
	cr_assert_str_eq(captured(fd, buf, sizeof(buf)), "debug: yes\n");
	log_set_level(LOG_LEVEL_MAX);
	cr_assert_eq(log_get_level(), LOG_LEVEL_DEBUG);
}

Test(log, journal_form_only_when_stderr_is_the_journal)
{
	char buf[256], stream[64];
	struct stat st;
	int fd = capture();

	cr_assert_eq(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_info("hello");
	cr_assert_str_eq(captured(fd, buf, sizeof(buf)), "<6>hello\n");
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino + 1);
	setenv("JOURNAL_STREAM", stream, 1);
	log_info("hello");
	cr_assert_str_eq(captured(fd, buf, sizeof(buf)), "info: hello\n");
	setenv("JOURNAL_STREAM", "garbage", 1);
	log_info("hello");
	cr_assert_str_eq(captured(fd, buf, sizeof(buf)), "info: hello\n");
}

Test(log, keeps_errno)
{
	capture();
	errno = ENOTTY;
	log_error("x");
	cr_assert_eq(errno, ENOTTY);
	close(STDERR_FILENO);
	errno = ENOTTY;
	log_error("nowhere to go");
	cr_assert_eq(errno, ENOTTY);
}

Test(log, level_words)
{
	enum log_level level = LOG_LEVEL_MAX;

	cr_assert_eq(log_level_from_string("debug", &level), 0);
	cr_assert_eq(level, LOG_LEVEL_DEBUG);
	cr_assert_eq(log_level_from_string("error", &level), 0);
	cr_assert_eq(level, LOG_LEVEL_ERROR);
	cr_assert_eq(log_level_from_string("Debug", &level), -EINVAL);
	cr_assert_eq(log_level_from_string(NULL, &level), -EINVAL);
	cr_assert_eq(level, LOG_LEVEL_ERROR);
}
