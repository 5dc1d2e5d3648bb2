#include "core/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "core/log.h"

#define WHOLE_END (1ULL << 53)

static void *need(void *p)
{
	if (!p) {
		log_error("out of memory");
		abort();
	}
	return p;
}

void json_add_item(cJSON *o, const char *name, cJSON *item)
{
	if (!item)
		item = need(cJSON_CreateNull());
	if (!cJSON_AddItemToObject(o, name, item))
		need(NULL);
}

void json_add_string(cJSON *o, const char *name, const char *value)
{
	json_add_item(o, name, value ? need(cJSON_CreateString(value)) : NULL);
}

void json_add_uint(cJSON *o, const char *name, uint64_t value)
{
	char text[24];

	if (value < WHOLE_END) {
		json_add_item(o, name, need(cJSON_CreateNumber((double)value)));
		return;
	}
	snprintf(text, sizeof(text), "%" PRIu64, value);
	json_add_string(o, name, text);
}

void json_add_int(cJSON *o, const char *name, int64_t value)
{
	char text[24];

	if (value < (int64_t)WHOLE_END && value > -(int64_t)WHOLE_END) {
		json_add_item(o, name, need(cJSON_CreateNumber((double)value)));
		return;
	}
	snprintf(text, sizeof(text), "%" PRId64, value);
	json_add_string(o, name, text);
}

void json_add_bool(cJSON *o, const char *name, bool value)
{
	json_add_item(o, name, need(cJSON_CreateBool(value)));
}

void json_add_double(cJSON *o, const char *name, double value)
{
	json_add_item(o, name, isfinite(value) ? need(cJSON_CreateNumber(value)) : NULL);
}

void json_add_ms(cJSON *o, const char *name, uint64_t ns)
{
	uint64_t us = ns / 1000 + (ns % 1000 >= 500);

	json_add_double(o, name, (double)us / 1000.0);
}

void json_add_null(cJSON *o, const char *name)
{
	json_add_item(o, name, NULL);
}

void json_add_strv(cJSON *o, const char *name, char *const *strv)
{
	cJSON *array = json_array();

	for (; strv && *strv; strv++)
		json_append(array, need(cJSON_CreateString(*strv)));
	json_add_item(o, name, array);
}

void json_append(cJSON *array, cJSON *item)
{
	if (!cJSON_AddItemToArray(array, need(item)))
		need(NULL);
}

cJSON *json_object(void)
{
	return need(cJSON_CreateObject());
}

cJSON *json_array(void)
{
	return need(cJSON_CreateArray());
}

void strv_free(char **v)
{
	for (char **p = v; p && *p; p++)
		free(*p);
	free(v);
}

size_t strv_length(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

char **strv_copy(char *const *v)
{
	size_t n = strv_length(v);
	char **copy;

	if (!v)
		return NULL;
	copy = need(calloc(n + 1, sizeof(*copy)));
	for (size_t i = 0; i < n; i++)
		copy[i] = need(strdup(v[i]));
	return copy;
}

void strv_push(char ***v, char *s)
{
	size_t n = strv_length(*v);

	need(s);
	*v = need(reallocarray(*v, n + 2, sizeof(**v)));
	(*v)[n] = s;
	(*v)[n + 1] = NULL;
}

bool strv_contains(char *const *v, const char *s)
{
	for (; v && *v; v++)
		if (strcmp(*v, s) == 0)
			return true;
	return false;
}
