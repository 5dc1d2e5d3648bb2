/*
 * JSON read by a table of (name, type, offset, mandatory) and written by short verbs. cJSON does the
 * parsing; this adds strictness: depth and size limits, duplicate and unknown keys refused with
 * their place ("experiments[2].params.delay: expected a string, got a number").
 */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

#define JSON_TEXT_MAX (16UL << 20)

static inline void json_deletep(cJSON **p)
{
	cJSON_Delete(*p);
}
#define _cleanup_json_ _cleanup_(json_deletep)

enum json_type {
	JSON_STRING,	/* char *, allocated; the old value is freed */
	JSON_BOOL,	/* bool */
	JSON_UINT64,	/* uint64_t: a whole number below 2^53 (RFC 7493), or a decimal string */
	JSON_INT64,	/* int64_t, likewise */
	JSON_UINT32,	/* uint32_t */
	JSON_UINT16,	/* uint16_t */
	JSON_PID,	/* pid_t, above 0 */
	JSON_DOUBLE,	/* double, finite */
	JSON_STRV,	/* char **, NULL-terminated, allocated: an array of strings */
	JSON_ANY,	/* cJSON *, a duplicate owned by the struct */
	JSON_ENUM,	/* int-sized enum; from_string in the field */
	JSON_CUSTOM,	/* parse in the field */
	JSON_TYPE_MAX,
};

struct json_field {
	const char *name;
	enum json_type type;
	size_t offset;
	bool mandatory;
	int (*from_string)(const char *s, int *ret);				   /* JSON_ENUM */
	int (*parse)(const cJSON *item, void *member, struct err **err);	   /* JSON_CUSTOM */
};

/* Ends a table. */
#define JSON_FIELD_END {.name = NULL}

enum json_strictness { JSON_REFUSE_UNKNOWN, JSON_ALLOW_UNKNOWN };

/* Arrays and objects inside one another; more is refused. */
#define JSON_DEPTH_MAX 64

/* The whole text must be one document (RFC 8259, UTF-8, no "\u0000" since strings here end there);
 * -EINVAL with the byte's place, or with the key's for a duplicate one. Caller deletes *ret. */
int json_parse(const char *text, size_t length, cJSON **ret, struct err **err);

/* Fills *object (whose members must be initialised, so that old values can be freed). On failure
 * members may be partly filled; the owner's destructor takes that. null counts as absent. */
int json_dispatch(const cJSON *json, const struct json_field *fields, void *object,
	enum json_strictness strictness, struct err **err);

/* Puts a place before the words of *err, joining it to one that is there: "params" before
 * "delay: expected ..." gives "params.delay: expected ...". For JSON_CUSTOM parsers. Returns -|code|. */
int json_err_at(struct err **err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* "an object", "a string", ...: the type of an item for a message. NULL: "nothing". */
const char *json_type_name(const cJSON *item);
/* Member of an object by its exact name (cJSON's own ignores case); NULL when absent or null. */
const cJSON *json_get(const cJSON *object, const char *name);
/* An array's strings, as JSON_STRV does. */
int json_to_strv(const cJSON *item, char ***ret, struct err **err);

/* Writing: never fail but for memory, which aborts (log + abort): a half message is worse. */
void json_add_string(cJSON *o, const char *name, const char *value);	/* NULL: null */
void json_add_uint(cJSON *o, const char *name, uint64_t value);	/* from 2^53 on: a string */
void json_add_int(cJSON *o, const char *name, int64_t value);
void json_add_bool(cJSON *o, const char *name, bool value);
void json_add_double(cJSON *o, const char *name, double value);	/* NaN/inf: null */
void json_add_ms(cJSON *o, const char *name, uint64_t ns);		/* as a number of ms, 3 decimals */
void json_add_null(cJSON *o, const char *name);
void json_add_strv(cJSON *o, const char *name, char *const *strv);
void json_add_item(cJSON *o, const char *name, cJSON *item);		/* takes item; NULL: null */
void json_append(cJSON *array, cJSON *item);				/* takes item */
cJSON *json_object(void);
cJSON *json_array(void);

/* Always valid UTF-8 (a byte that is not becomes U+FFFD), numbers exact (cJSON's own printer rounds
 * whole ones above 10^15). Caller frees. */
char *json_print(const cJSON *json);
char *json_print_pretty(const cJSON *json);

void strv_free(char **v);
size_t strv_length(char *const *v);
char **strv_copy(char *const *v);
/* Takes s; aborts without memory. */
void strv_push(char ***v, char *s);
bool strv_contains(char *const *v, const char *s);
static inline void strv_freep(char ***v)
{
	strv_free(*v);
}
#define _cleanup_strv_ _cleanup_(strv_freep)
