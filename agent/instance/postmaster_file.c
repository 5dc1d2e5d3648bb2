#include "instance/postmaster_file.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

void postmaster_file_done(struct postmaster_file *f)
{
	free(f->socket_dir);
	free(f->listen_address);
	*f = (struct postmaster_file){0};
}

/* A line that is a number from 1 to max and nothing else but blanks. */
static int number_parse(const char *line, size_t length, long max, long *ret)
{
	char text[24], *end;
	long n;

	while (length > 0 && (line[length - 1] == ' ' || line[length - 1] == '\r'))
		length--;
	if (length == 0 || length >= sizeof(text) || line[0] < '0' || line[0] > '9')
		return -EINVAL;
	memcpy(text, line, length);
	text[length] = '\0';
	errno = 0;
	n = strtol(text, &end, 10);
	if (*end || errno || n < 1 || n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

int postmaster_file_parse(const char *text, struct postmaster_file *ret, struct err **err)
{
	struct postmaster_file f = {0};
	const char *line = text;

	for (int i = 1; i <= 6; i++) {
		size_t length = strcspn(line, "\n");
		long n;

		if (i == 1) {
			if (number_parse(line, length, INT_MAX, &n) < 0)
				return err_set(err, EINVAL, "line 1 is no postmaster's pid");
			f.pid = (pid_t)n;
		} else if (i == 4 && number_parse(line, length, UINT16_MAX, &n) == 0) {
			f.port = (uint16_t)n;
		} else if (i == 5 && length > 0) {
			f.socket_dir = strndup(line, length);
		} else if (i == 6 && length > 0) {
			f.listen_address = strndup(line, length);
		}
		if (line[length] == '\0')
			break;
		line += length + 1;
	}
	*ret = f;
	return 0;
}
