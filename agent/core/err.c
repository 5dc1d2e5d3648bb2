#include "core/err.h"

#include <stdio.h>
#include <string.h>

void err_free(struct err *e)
{
	if (!e)
		return;
	free(e->text);
	free(e);
}

static int negative(int code)
{
	if (code == 0)
		return -EIO;
	return code < 0 ? code : -code;
}

/* Takes text (NULL: no memory for it, so the words are lost but the code is not). */
static void put(struct err **ret, int code, char *text)
{
	struct err *e = calloc(1, sizeof(*e));

	if (e && text) {
		e->code = code;
		e->text = text;
		err_free(*ret);
		*ret = e;
		return;
	}
	free(e);
	free(text);
	err_free(*ret);
	*ret = NULL;
}

int err_set(struct err **ret, int code, const char *fmt, ...)
{
	va_list args;
	char *text = NULL;

	code = negative(code);
	if (!ret)
		return code;
	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	va_end(args);
	put(ret, code, text);
	return code;
}

__attribute__((format(printf, 2, 0)))
static char *prefixed(const char *words, const char *fmt, va_list args)
{
	_cleanup_free_ char *prefix = NULL;
	char *text = NULL;

	if (vasprintf(&prefix, fmt, args) < 0) {
		prefix = NULL;
		return NULL;
	}
	return asprintf(&text, "%s: %s", prefix, words) < 0 ? NULL : text;
}

int err_errno(struct err **ret, int code, const char *fmt, ...)
{
	va_list args;
	char *text;

	code = negative(code);
	if (!ret)
		return code;
	va_start(args, fmt);
	text = prefixed(strerror(-code), fmt, args);
	va_end(args);
	put(ret, code, text);
	return code;
}

int err_wrap(struct err **ret, int code, const char *fmt, ...)
{
	va_list args;
	char *text;

	code = negative(code);
	if (!ret)
		return code;
	va_start(args, fmt);
	text = prefixed(*ret ? (*ret)->text : strerror(-code), fmt, args);
	va_end(args);
	put(ret, code, text);
	return code;
}

const char *err_text(const struct err *e)
{
	if (!e)
		return "no error";
	return e->text ? e->text : strerror(-e->code);
}

int err_http_status(int code)
{
	switch (negative(code)) {
	case -EINVAL:
		return 400;
	case -EPERM:
	case -EACCES:
		return 403;
	case -ENOENT:
		return 404;
	case -EBUSY:
	case -EEXIST:
		return 409;
	case -ESTALE:
		return 410;
	case -EOPNOTSUPP:
		return 422;
	case -ETIMEDOUT:
		return 504;
	default:
		return 500;
	}
}

int err_from_http_status(int status)
{
	switch (status) {
	case 400:
		return -EINVAL;
	case 403:
		return -EPERM;
	case 404:
		return -ENOENT;
	case 409:
		return -EBUSY;
	case 410:
		return -ESTALE;
	case 422:
		return -EOPNOTSUPP;
	case 504:
		return -ETIMEDOUT;
	default:
		return -EIO;
	}
}
