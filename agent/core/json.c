#include "core/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "core/json_text.h"
#include "core/units.h"

/* From here on a double no longer holds every whole number. */
#define WHOLE_END 9007199254740992.0

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted rather than compared pair by pair: an object of a million keys is no way to stop us. */
static int check_keys_of(const cJSON *object, struct err **err)
{
	size_t n = (size_t)cJSON_GetArraySize(object), i = 0;
	_cleanup_free_ const char **keys = n ? calloc(n, sizeof(*keys)) : NULL;
	const cJSON *child;

	if (n == 0)
		return 0;
	if (!keys)
		return err_errno(err, -ENOMEM, "JSON object of %zu keys", n);
	cJSON_ArrayForEach(child, object)
		keys[i++] = child->string;
	qsort(keys, n, sizeof(*keys), compare_keys);
	for (i = 1; i < n; i++)
		if (strcmp(keys[i - 1], keys[i]) == 0)
			return json_err_at(err,
				err_set(err, -EINVAL, "the key is there twice"), "%.64s", keys[i]);
	return 0;
}

static int check_keys(const cJSON *item, struct err **err)
{
	const cJSON *child;
	size_t i = 0;
	int r;

	if (cJSON_IsObject(item)) {
		r = check_keys_of(item, err);
		if (r < 0)
			return r;
	}
	cJSON_ArrayForEach(child, item) {
		r = check_keys(child, err);
		if (r < 0)
			return cJSON_IsObject(item) ? json_err_at(err, r, "%.64s", child->string)
						    : json_err_at(err, r, "[%zu]", i);
		i++;
	}
	return 0;
}

int json_parse(const char *text, size_t length, cJSON **ret, struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;
	int r;

	r = json_text_check(text, length, err);
	if (r < 0)
		return r;
	json = cJSON_ParseWithLength(text, length);
	if (!json)
		return err_errno(err, -ENOMEM, "read JSON of %zu bytes", length);
	r = check_keys(json, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(json);
	return 0;
}

int json_err_at(struct err **err, int code, const char *fmt, ...)
{
	_cleanup_free_ char *place = NULL;
	char *text = NULL;
	va_list args;
	size_t inner;
	int n;

	code = code > 0 ? -code : code;
	if (!err)
		return code;
	va_start(args, fmt);
	n = vasprintf(&place, fmt, args);
	va_end(args);
	if (n < 0) {
		place = NULL;
		return code;
	}
	if (!*err)
		err_set(err, code, "%s", strerror(-code));
	if (!*err)
		return code;
	inner = (*err)->place;
	if (inner == 0)
		n = asprintf(&text, "%s: %s", place, (*err)->text);
	else
		n = asprintf(&text, "%s%s%s", place, (*err)->text[0] == '[' ? "" : ".",
			(*err)->text);
	if (n < 0)
		return code;
	(*err)->place = strlen(place) + inner;
	free((*err)->text);
	(*err)->text = text;
	(*err)->code = code;
	return code;
}

const char *json_type_name(const cJSON *item)
{
	if (!item)
		return "nothing";
	switch (item->type & 0xff) {
	case cJSON_False:
	case cJSON_True:
		return "a boolean";
	case cJSON_NULL:
		return "null";
	case cJSON_Number:
		return "a number";
	case cJSON_String:
		return "a string";
	case cJSON_Array:
		return "an array";
	case cJSON_Object:
		return "an object";
	default:
		return "something else";
	}
}

const cJSON *json_get(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsNull(item) ? NULL : item;
}

static int expected(const cJSON *item, const char *what, struct err **err)
{
	if (cJSON_IsString(item))
		return err_set(err, -EINVAL, "expected %s, got \"%.64s\"", what,
			item->valuestring);
	if (cJSON_IsNumber(item))
		return err_set(err, -EINVAL, "expected %s, got %.15g", what, item->valuedouble);
	return err_set(err, -EINVAL, "expected %s, got %s", what, json_type_name(item));
}

/* A whole number with its sign apart, from a number below 2^53 or a decimal string. */
static int whole_read(const cJSON *item, bool *ret_negative, uint64_t *ret)
{
	if (cJSON_IsNumber(item)) {
		double d = item->valuedouble;

		if (d != trunc(d) || fabs(d) >= WHOLE_END)
			return -EINVAL;
		*ret_negative = d < 0;
		*ret = (uint64_t)fabs(d);
		return 0;
	}
	if (cJSON_IsString(item)) {
		const char *s = item->valuestring;

		*ret_negative = *s == '-';
		return count_parse(s + (*s == '-'), 0, UINT64_MAX, ret, NULL);
	}
	return -EINVAL;
}

static int dispatch_uint(const cJSON *item, uint64_t min, uint64_t max, uint64_t *ret,
	struct err **err)
{
	char what[96];
	bool negative;
	uint64_t value;

	if (whole_read(item, &negative, &value) < 0 || (negative && value) || value < min ||
		value > max) {
		snprintf(what, sizeof(what), "a whole number from %" PRIu64 " to %" PRIu64, min,
			max);
		return expected(item, what, err);
	}
	*ret = value;
	return 0;
}

static int dispatch_int64(const cJSON *item, int64_t *ret, struct err **err)
{
	bool negative;
	uint64_t value;

	if (whole_read(item, &negative, &value) < 0 ||
		value > (uint64_t)INT64_MAX + (negative ? 1 : 0))
		return expected(item, "a whole number of 64 bits", err);
	*ret = negative ? (int64_t)(0 - value) : (int64_t)value;
	return 0;
}

static int dispatch_string(const cJSON *item, char **ret, struct err **err)
{
	char *copy;

	if (!cJSON_IsString(item))
		return expected(item, "a string", err);
	copy = strdup(item->valuestring);
	if (!copy)
		return err_errno(err, -ENOMEM, "copy a string");
	free(*ret);
	*ret = copy;
	return 0;
}

int json_to_strv(const cJSON *item, char ***ret, struct err **err)
{
	_cleanup_strv_ char **v = NULL;
	const cJSON *child;
	size_t n = 0;
	int r;

	if (!cJSON_IsArray(item))
		return expected(item, "an array of strings", err);
	v = calloc((size_t)cJSON_GetArraySize(item) + 1, sizeof(*v));
	if (!v)
		return err_errno(err, -ENOMEM, "copy an array");
	cJSON_ArrayForEach(child, item) {
		r = dispatch_string(child, &v[n], err);
		if (r < 0)
			return json_err_at(err, r, "[%zu]", n);
		n++;
	}
	strv_free(*ret);
	*ret = steal_ptr(v);
	return 0;
}

static int dispatch_any(const cJSON *item, cJSON **ret, struct err **err)
{
	cJSON *copy = cJSON_Duplicate(item, true);

	if (!copy)
		return err_errno(err, -ENOMEM, "copy a value");
	cJSON_Delete(*ret);
	*ret = copy;
	return 0;
}

static int dispatch_enum(const cJSON *item, const struct json_field *field, int *ret,
	struct err **err)
{
	if (!cJSON_IsString(item))
		return expected(item, "a string", err);
	if (field->from_string(item->valuestring, ret) < 0)
		return err_set(err, -EINVAL, "\"%.64s\" is not one of its words",
			item->valuestring);
	return 0;
}

static int dispatch_number(const cJSON *item, enum json_type type, void *member, struct err **err)
{
	uint64_t value = 0;
	int r;

	switch (type) {
	case JSON_UINT64:
		return dispatch_uint(item, 0, UINT64_MAX, member, err);
	case JSON_UINT32:
		r = dispatch_uint(item, 0, UINT32_MAX, &value, err);
		if (r == 0)
			*(uint32_t *)member = (uint32_t)value;
		return r;
	case JSON_UINT16:
		r = dispatch_uint(item, 0, UINT16_MAX, &value, err);
		if (r == 0)
			*(uint16_t *)member = (uint16_t)value;
		return r;
	case JSON_PID:
		r = dispatch_uint(item, 1, INT32_MAX, &value, err);
		if (r == 0)
			*(pid_t *)member = (pid_t)value;
		return r;
	default:
		return dispatch_int64(item, member, err);
	}
}

static int dispatch_item(const cJSON *item, const struct json_field *field, void *member,
	struct err **err)
{
	switch (field->type) {
	case JSON_STRING:
		return dispatch_string(item, member, err);
	case JSON_BOOL:
		if (!cJSON_IsBool(item))
			return expected(item, "true or false", err);
		*(bool *)member = cJSON_IsTrue(item);
		return 0;
	case JSON_DOUBLE:
		if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
			return expected(item, "a number", err);
		*(double *)member = item->valuedouble;
		return 0;
	case JSON_STRV:
		return json_to_strv(item, member, err);
	case JSON_ANY:
		return dispatch_any(item, member, err);
	case JSON_ENUM:
		return dispatch_enum(item, field, member, err);
	case JSON_CUSTOM:
		return field->parse(item, member, err);
	default:
		return dispatch_number(item, field->type, member, err);
	}
}

static const struct json_field *field_find(const struct json_field *fields, const char *name)
{
	for (; fields->name; fields++)
		if (strcmp(fields->name, name) == 0)
			return fields;
	return NULL;
}

int json_dispatch(const cJSON *json, const struct json_field *fields, void *object,
	enum json_strictness strictness, struct err **err)
{
	const cJSON *item;
	int r;

	if (!cJSON_IsObject(json))
		return expected(json, "an object", err);
	cJSON_ArrayForEach(item, json) {
		const struct json_field *field = field_find(fields, item->string);

		if (!field && strictness == JSON_REFUSE_UNKNOWN)
			return json_err_at(err, err_set(err, -EINVAL, "no such key here"),
				"%.64s", item->string);
		if (!field || cJSON_IsNull(item))
			continue;
		r = dispatch_item(item, field, (char *)object + field->offset, err);
		if (r < 0)
			return json_err_at(err, r, "%s", field->name);
	}
	for (; fields->name; fields++)
		if (fields->mandatory && !json_get(json, fields->name))
			return json_err_at(err, err_set(err, -EINVAL, "is missing"), "%s",
				fields->name);
	return 0;
}
