/*
 * Errors as objects. A function returns 0 or a negative errno and, where it fails, may leave the
 * words in its last parameter. Callers wrap on the way up ("arm net-partition: open netns: ...");
 * the top logs or sends it, once.
 *
 * The errno classes that callers act on:
 *   -EINVAL       the input is wrong (exit 2, HTTP 400)
 *   -ENOENT       no such thing (404)       -ESTALE      it was there and is gone (410)
 *   -EBUSY        in use, conflict (409)    -EEXIST      already there (409)
 *   -EPERM/-EACCES  refused by a rule or for lack of a right (403)
 *   -EOPNOTSUPP   this node cannot (422)    -ETIMEDOUT   too late (504)
 *   anything else is a failure of ours or the kernel's (500)
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include "core/cleanup.h"

struct err {
	int code;	/* negative errno */
	char *text;	/* never NULL */
	size_t place;	/* leading bytes of text that are a place in a document; json_err_at() */
};

void err_free(struct err *e);
DEFINE_CLEANUP(struct err, err_free)
#define _cleanup_err_ _cleanup_(err_freep)

/* Sets *ret (if ret is not NULL; an error already there is replaced, after its
 * words have been used if they are an argument) and returns -|code|. */
int err_set(struct err **ret, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* As err_set, with ": " and strerror(|code|) added. */
int err_errno(struct err **ret, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "fmt: " before the words that are there (or strerror) and returns -|code|. */
int err_wrap(struct err **ret, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The words, or strerror of the code, or "no error"; never NULL. */
const char *err_text(const struct err *e);

/* HTTP status for a negative errno, by the table above. */
int err_http_status(int code);

/* The errno class that a status of an agent stands for; -EIO for an unknown one. */
int err_from_http_status(int status);
