/* What is done with parameters that are read: param.c reads them. */
#include "core/param.h"

#include <stdio.h>
#include <string.h>
#include "core/catalogue.h"
#include "core/log.h"

static void value_done(struct param_value *v)
{
	free(v->text);
	strv_free(v->texts);
	peer_list_done(&v->peers);
}

void params_free(struct params *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->spec->n_params; i++)
		value_done(&p->values[i]);
	free(p);
}

static void add_peers(cJSON *o, const char *name, const struct param_value *v)
{
	cJSON *array;

	if (v->peers.count == 0) {
		json_add_strv(o, name, v->texts);
		return;
	}
	array = json_array();
	for (size_t i = 0; i < v->peers.count; i++) {
		_cleanup_free_ char *text = peer_format(&v->peers.peers[i]);

		json_append(array, cJSON_CreateString(text));
	}
	json_add_item(o, name, array);
}

static void add_ports(cJSON *o, const char *name, const struct param_value *v)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);

	if (!f)
		abort();
	for (size_t i = 0; v->texts[i]; i++)
		fprintf(f, "%s%s", i ? "," : "", v->texts[i]);
	if (fclose(f) != 0)
		abort();
	json_add_string(o, name, text);
}

cJSON *params_to_json(const struct params *p)
{
	cJSON *o = json_object();

	for (size_t i = 0; i < p->spec->n_params; i++) {
		const struct param_spec *spec = &p->spec->params[i];
		const struct param_value *v = &p->values[i];
		char text[UNITS_TEXT_MAX];

		if (!v->set)
			continue;
		if (spec->type == PARAM_BOOL)
			json_add_bool(o, spec->name, v->number != 0);
		else if (spec->type == PARAM_COUNT)
			json_add_uint(o, spec->name, v->number);
		else if (spec->type == PARAM_TEXT)
			json_add_string(o, spec->name, v->text);
		else if (spec->type == PARAM_TEXTS)
			json_add_strv(o, spec->name, v->texts);
		else if (spec->type == PARAM_PEERS)
			add_peers(o, spec->name, v);
		else if (spec->type == PARAM_PORTS)
			add_ports(o, spec->name, v);
		else
			json_add_string(o, spec->name,
				param_number_format(spec, v->number, text));
	}
	return o;
}

static const struct param_value *value_of(const struct params *p, const char *name)
{
	for (size_t i = 0; i < p->spec->n_params; i++)
		if (strcmp(p->spec->params[i].name, name) == 0)
			return &p->values[i];
	log_error("%s has no parameter %s", p->spec->name, name);
	abort();
}

bool params_is_set(const struct params *p, const char *name)
{
	return value_of(p, name)->set;
}

uint64_t params_number(const struct params *p, const char *name)
{
	return value_of(p, name)->number;
}

const char *params_text(const struct params *p, const char *name)
{
	return value_of(p, name)->text;
}

char *const *params_texts(const struct params *p, const char *name)
{
	return value_of(p, name)->texts;
}

const struct peer_list *params_peers(const struct params *p, const char *name)
{
	return &value_of(p, name)->peers;
}
