/* The files of tests/unit/manager/data, and pods out of them. */
#pragma once

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "manager/pod.h"

static inline cJSON *data_load(const char *name)
{
	_cleanup_free_ char *path = NULL, *text = NULL;
	size_t length = 0;
	cJSON *json = NULL;
	struct err *err = NULL;
	FILE *f;

	cr_assert_gt(asprintf(&path, "%s/tests/unit/manager/data/%s", getenv("PGJOLT_SOURCE"), name), 0);
	f = fopen(path, "r");
	cr_assert_not_null(f, "%s", path);
	cr_assert_gt(getdelim(&text, &length, EOF, f), 0);
	fclose(f);
	cr_assert_eq(json_parse(text, strlen(text), &json, &err), 0, "%s: %s", path, err_text(err));
	return json;
}

static inline cJSON *data_parse(const char *text)
{
	cJSON *json = NULL;
	struct err *err = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &json, &err), 0, "%s: %s", text, err_text(err));
	return json;
}

/* The step of that name. */
static inline const cJSON *data_step(const cJSON *data, const char *name)
{
	const cJSON *step;

	cJSON_ArrayForEach(step, json_get(data, "steps"))
		if (strcmp(json_get(step, "step")->valuestring, name) == 0)
			return step;
	cr_assert_fail("no step %s", name);
	return NULL;
}

static inline struct pod *data_pods(const cJSON *step, size_t *ret_count)
{
	const cJSON *list = json_get(step, "pods"), *item;
	struct pod *pods = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof(*pods));

	*ret_count = 0;
	cJSON_ArrayForEach(item, list)
		cr_assert_eq(pod_read(item, &pods[(*ret_count)++], NULL), 0);
	return pods;
}

static inline void data_pods_free(struct pod *pods, size_t n)
{
	for (size_t i = 0; i < n; i++)
		pod_done(&pods[i]);
	free(pods);
}

static inline const struct cluster_member *data_member(const struct cluster_view *v, const char *name)
{
	for (size_t i = 0; i < v->n_members; i++)
		if (strcmp(v->members[i].name, name) == 0)
			return &v->members[i];
	cr_assert_fail("no member %s", name);
	return NULL;
}
