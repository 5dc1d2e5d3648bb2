#include "core/param.h"

#include <ctype.h>
#include <signal.h>
#include <string.h>
#include "core/catalogue.h"
#include "core/nearest.h"

#define TEXT_MAX  256
#define TEXTS_MAX 256

static int signal_parse(const char *s, uint64_t *ret, struct err **err)
{
	const char *name = strncasecmp(s, "SIG", 3) == 0 ? s + 3 : s;

	if (isdigit((unsigned char)*s))
		return count_parse(s, 1, 64, ret, err);
	for (int i = 1; i < NSIG; i++) {
		const char *known = sigabbrev_np(i);

		if (known && strcasecmp(known, name) == 0) {
			*ret = (uint64_t)i;
			return 0;
		}
	}
	return err_set(err, -EINVAL,
		"\"%.64s\" is no signal: a name such as KILL or a number from 1 to 64", s);
}

static int enum_parse(const struct param_spec *spec, const char *s, uint64_t *ret, struct err **err)
{
	_cleanup_free_ char *allowed = NULL;

	for (size_t i = 0; spec->choices[i]; i++) {
		if (strcmp(spec->choices[i], s) == 0) {
			*ret = i;
			return 0;
		}
	}
	allowed = param_range_text(spec);
	return err_set(err, -EINVAL, "\"%.64s\" is not one of %s", s, allowed ? allowed : "them");
}

static int bool_parse(const char *s, uint64_t *ret, struct err **err)
{
	bool yes = strcmp(s, "true") == 0;

	if (!yes && strcmp(s, "false") != 0)
		return err_set(err, -EINVAL, "\"%.64s\" is not true or false", s);
	*ret = yes;
	return 0;
}

static int number_parse(const struct param_spec *spec, const char *s, uint64_t *ret,
	struct err **err)
{
	uint32_t ppm;
	int r;

	switch (spec->type) {
	case PARAM_BOOL:
		return bool_parse(s, ret, err);
	case PARAM_DURATION:
		return duration_parse(s, ret, err);
	case PARAM_PERCENT:
		r = spec->max > 1000000 ? percent_parse_to(s, (uint32_t)spec->max, &ppm, err) :
					  percent_parse(s, &ppm, err);
		if (r == 0)
			*ret = ppm;
		return r;
	case PARAM_BYTES:
		return bytes_parse(s, ret, err);
	case PARAM_RATE:
		return rate_parse(s, ret, err);
	case PARAM_ENUM:
		return enum_parse(spec, s, ret, err);
	case PARAM_SIGNAL:
		return signal_parse(s, ret, err);
	default:
		return count_parse(s, 0, UINT64_MAX, ret, err);
	}
}

static int bounded_parse(const struct param_spec *spec, const char *s, uint64_t *ret,
	struct err **err)
{
	_cleanup_free_ char *range = NULL;
	uint64_t number;
	int r;

	r = number_parse(spec, s, &number, err);
	if (r == 0 && number >= spec->min && (spec->max == 0 || number <= spec->max)) {
		*ret = number;
		return 0;
	}
	range = param_range_text(spec);
	if (r == 0)
		return err_set(err, -EINVAL, "%.64s is out of range (allowed: %s)", s,
			range ? range : "?");
	if (range && *range && spec->type != PARAM_ENUM && err && *err)
		return err_set(err, r, "%s (allowed: %s)", err_text(*err), range);
	return r;
}

static int text_check(const char *s, struct err **err)
{
	size_t n = strlen(s);

	if (n == 0)
		return err_set(err, -EINVAL, "an empty text");
	if (n > TEXT_MAX)
		return err_set(err, -EINVAL, "\"%.64s...\" is longer than %d bytes", s, TEXT_MAX);
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return err_set(err, -EINVAL, "a control character in a text");
	return 0;
}

static int texts_parse(const struct param_spec *spec, char **texts, struct err **err)
{
	_cleanup_free_ char *allowed = NULL;
	int r;

	for (; *texts; texts++) {
		bool known = !spec->choices;

		r = text_check(*texts, err);
		if (r < 0)
			return r;
		for (size_t i = 0; !known && spec->choices[i]; i++)
			known = strcmp(spec->choices[i], *texts) == 0;
		if (known)
			continue;
		allowed = param_range_text(spec);
		return err_set(err, -EINVAL, "\"%.64s\" is not one of %s", *texts,
			allowed ? allowed : "them");
	}
	return 0;
}

static int ports_parse(char *const *texts, struct peer_list *ret, struct err **err)
{
	_cleanup_(peer_list_done) struct peer_list l = {0};
	size_t n = strv_length(texts);
	int r;

	l.peers = calloc(n, sizeof(*l.peers));
	if (!l.peers)
		return err_errno(err, -ENOMEM, "ports");
	for (; l.count < n; l.count++) {
		struct peer *p = &l.peers[l.count];

		r = port_range_parse(texts[l.count], &p->port_low, &p->port_high, err);
		if (r < 0)
			return r;
		p->label = strdup(texts[l.count]);
		if (!p->label)
			return err_errno(err, -ENOMEM, "ports");
	}
	*ret = l;
	l = (struct peer_list){0};
	return 0;
}

/* A peer or a name of one. */
static int peer_text_check(const char *text, struct err **err)
{
	_cleanup_(peer_done) struct peer p = {0};
	_cleanup_free_ char *name = NULL;
	uint16_t low, high;
	int r;

	r = peer_parse(text, &p, err);
	if (r == 0)
		return 0;
	if ((strpbrk(text, "=[,") && strncmp(text, "pods:", 5) != 0) ||
		peer_name_parse(text, &name, &low, &high, NULL) < 0)
		return r;
	if (err) {
		err_free(*err);
		*err = NULL;
	}
	return 0;
}

static int peers_parse(char *const *texts, bool resolved, struct peer_list *ret, struct err **err)
{
	int r = 0;

	if (resolved)
		return peer_list_parse(texts, ret, err);
	for (; r == 0 && *texts; texts++)
		r = peer_text_check(*texts, err);
	return r;
}

/* Cuts at commas and trims spaces; an empty part is refused. */
static int text_split(const char *s, char ***ret, struct err **err)
{
	_cleanup_strv_ char **v = NULL;

	if (strlen(s) > (size_t)TEXTS_MAX * TEXT_MAX)
		return err_set(err, -EINVAL, "a list of %zu bytes is too long", strlen(s));
	while (true) {
		size_t n = strcspn(s, ","), next = n;

		while (n && isspace((unsigned char)*s))
			s++, n--, next--;
		while (n && isspace((unsigned char)s[n - 1]))
			n--;
		if (n == 0)
			return err_set(err, -EINVAL, "an empty part in a list");
		strv_push(&v, strndup(s, n));
		s += next;
		if (!*s++)
			break;
	}
	*ret = steal_ptr(v);
	return 0;
}

/* A scalar in its text form, or NULL for an array or object. Caller frees. */
static char *scalar_text(const cJSON *item)
{
	if (cJSON_IsString(item))
		return strdup(item->valuestring);
	if (cJSON_IsNumber(item) || cJSON_IsBool(item))
		return json_print(item);
	return NULL;
}

static int list_from_json(const cJSON *item, char ***ret, struct err **err)
{
	_cleanup_strv_ char **v = NULL;
	const cJSON *child;

	if (!cJSON_IsArray(item)) {
		_cleanup_free_ char *s = scalar_text(item);

		if (!s)
			return err_set(err, -EINVAL, "expected a text or a list of texts, got %s",
				json_type_name(item));
		return text_split(s, ret, err);
	}
	cJSON_ArrayForEach(child, item) {
		char *s = cJSON_IsBool(child) ? NULL : scalar_text(child);

		if (!s)
			return err_set(err, -EINVAL, "expected texts in the list, got %s",
				json_type_name(child));
		strv_push(&v, s);
	}
	if (!v)
		return err_set(err, -EINVAL, "an empty list");
	*ret = steal_ptr(v);
	return 0;
}

static int list_value(const struct param_spec *spec, const cJSON *item, bool resolved,
	struct param_value *ret, struct err **err)
{
	int r;

	r = list_from_json(item, &ret->texts, err);
	if (r < 0)
		return r;
	if (strv_length(ret->texts) > TEXTS_MAX)
		return err_set(err, -EINVAL, "%zu parts in a list, at most %d are allowed",
			strv_length(ret->texts), TEXTS_MAX);
	if (spec->type == PARAM_TEXTS)
		return texts_parse(spec, ret->texts, err);
	if (spec->type == PARAM_PORTS)
		return ports_parse(ret->texts, &ret->peers, err);
	return peers_parse(ret->texts, resolved, &ret->peers, err);
}

static bool is_list(enum param_type type)
{
	return type == PARAM_TEXTS || type == PARAM_PEERS || type == PARAM_PORTS;
}

/* Whatever it leaves in *ret on failure, params_free() takes. */
static int value_from_json(const struct param_spec *spec, const cJSON *item, bool resolved,
	struct param_value *ret, struct err **err)
{
	_cleanup_free_ char *s = NULL;
	int r;

	if (is_list(spec->type))
		return list_value(spec, item, resolved, ret, err);
	s = scalar_text(item);
	if (!s || (cJSON_IsBool(item) && spec->type != PARAM_BOOL))
		return err_set(err, -EINVAL, "expected %s, got %s",
			spec->type == PARAM_BOOL ? "true or false" : "a text or a number",
			json_type_name(item));
	if (spec->type != PARAM_TEXT)
		return bounded_parse(spec, s, &ret->number, err);
	r = text_check(s, err);
	if (r == 0)
		ret->text = steal_ptr(s);
	return r;
}

static int value_fallback(const struct param_spec *spec, bool resolved, struct param_value *ret,
	struct err **err)
{
	_cleanup_json_ cJSON *text = cJSON_CreateString(spec->fallback);

	if (!text)
		return err_errno(err, -ENOMEM, "default");
	return value_from_json(spec, text, resolved, ret, err);
}

/* Where none is given: the default, or an error if it is required. */
static int value_default(const struct param_spec *spec, bool resolved, struct param_value *ret,
	struct err **err)
{
	_cleanup_free_ char *range = NULL;

	if (spec->fallback) {
		ret->set = true;
		return value_fallback(spec, resolved, ret, err);
	}
	if (!spec->required)
		return 0;
	range = param_range_text(spec);
	return err_set(err, -EINVAL, "is required%s%s%s", range && *range ? " (allowed: " : "",
		range ? range : "", range && *range ? ")" : "");
}

static int unknown(const struct fault_spec *spec, const char *name, struct err **err)
{
	_cleanup_free_ const char **names = calloc(spec->n_params + 1, sizeof(*names));
	const char *near;

	if (!names)
		return err_errno(err, -ENOMEM, "%s", spec->name);
	for (size_t i = 0; i < spec->n_params; i++)
		names[i] = spec->params[i].name;
	near = nearest_word(name, names, spec->n_params);
	if (near)
		return err_set(err, -EINVAL, "%s has no parameter \"%.64s\"; did you mean \"%s\"?",
			spec->name, name, near);
	return err_set(err, -EINVAL,
		"%s has no parameter \"%.64s\"; \"pgjolt faults %s\" lists them", spec->name, name,
		spec->name);
}

static int check_names(const struct fault_spec *spec, const cJSON *json, struct err **err)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, json) {
		bool known = false;

		for (size_t i = 0; !known && i < spec->n_params; i++)
			known = strcmp(spec->params[i].name, item->string) == 0;
		if (!known)
			return unknown(spec, item->string, err);
	}
	return 0;
}

static int from_json(const struct fault_spec *spec, const cJSON *json, bool resolved,
	struct params **ret, struct err **err)
{
	_cleanup_(params_freep) struct params *p = NULL;
	int r;

	if (json && !cJSON_IsObject(json) && !cJSON_IsNull(json))
		return err_set(err, -EINVAL, "%s: parameters: expected an object, got %s",
			spec->name, json_type_name(json));
	r = check_names(spec, json, err);
	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p) + spec->n_params * sizeof(p->values[0]));
	if (!p)
		return err_errno(err, -ENOMEM, "%s", spec->name);
	p->spec = spec;
	for (size_t i = 0; i < spec->n_params; i++) {
		const cJSON *item = json_get(json, spec->params[i].name);
		struct param_value *v = &p->values[i];

		if (item) {
			v->set = v->given = true;
			r = value_from_json(&spec->params[i], item, resolved, v, err);
		} else {
			r = value_default(&spec->params[i], resolved, v, err);
		}
		if (r < 0)
			return err_wrap(err, r, "%s: %s", spec->name, spec->params[i].name);
	}
	if (spec->check) {
		r = spec->check(p, err);
		if (r < 0)
			return err_wrap(err, r, "%s", spec->name);
	}
	*ret = steal_ptr(p);
	return 0;
}

int params_from_json(const struct fault_spec *spec, const cJSON *json, struct params **ret,
	struct err **err)
{
	return from_json(spec, json, true, ret, err);
}

int params_from_json_unresolved(const struct fault_spec *spec, const cJSON *json,
	struct params **ret, struct err **err)
{
	return from_json(spec, json, false, ret, err);
}
