/* From the YAML's tree to a drill, by tables of keys. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/units.h"
#include "core/wire.h"
#include "drill/drill_read.h"
#include "yaml/yaml_tree.h"

#define STEPS_DEPTH_MAX 8
#define WAIT_LIMIT_DEFAULT (60 * NS_PER_S)

/* Readers of scalars into a member; the macros keep the tables readable. */
#define READ_MEMBER(name, type, member, call)                                                \
	static int name(struct yaml_tree *t, yaml_node_t *n, void *object, struct err **err) \
	{                                                                                    \
		type *o = object;                                                            \
		return call(t, n, &o->member, err);                                          \
	}

static int text_replace(struct yaml_tree *t, yaml_node_t *n, char **member, struct err **err)
{
	char *text;
	int r = yaml_text(t, n, "a text", &text, err);

	if (r < 0)
		return r;
	free(*member);
	*member = text;
	return 0;
}

static int texts_replace(struct yaml_tree *t, yaml_node_t *n, char ***member, struct err **err)
{
	char **texts;
	int r = yaml_texts(t, n, &texts, err);

	if (r < 0)
		return r;
	strv_free(*member);
	*member = texts;
	return 0;
}

/* ---- steps ---- */

struct steps {
	struct step **items;
	size_t *count;
	unsigned depth;
};

/* One step under construction: which keys were there decides its kind. */
struct step_keys {
	struct step *step;
	unsigned depth;
	yaml_node_t *inject, *wait, *revert, *parallel, *repeat, *steps, *params, *target, *duration,
		*limit;
};

#define KEEP_NODE(member)                                                                     \
	static int keep_##member(struct yaml_tree *t, yaml_node_t *n, void *object,           \
		struct err **err)                                                             \
	{                                                                                     \
		struct step_keys *k = object;                                                 \
		(void)t;                                                                      \
		(void)err;                                                                    \
		k->member = n;                                                                \
		return 0;                                                                     \
	}
KEEP_NODE(inject)
KEEP_NODE(wait)
KEEP_NODE(revert)
KEEP_NODE(parallel)
KEEP_NODE(repeat)
KEEP_NODE(steps)
KEEP_NODE(params)
KEEP_NODE(target)
KEEP_NODE(duration)
KEEP_NODE(limit)

static int read_step_name(struct yaml_tree *t, yaml_node_t *n, void *object, struct err **err)
{
	struct step_keys *k = object;
	int r = text_replace(t, n, &k->step->name, err);

	if (r >= 0 && !id_is_valid(k->step->name))
		return yaml_err(t, n, err,
			"name \"%s\": lower-case letters, digits and \"-\" are allowed",
			k->step->name);
	if (r >= 0 && strcmp(k->step->name, "all") == 0)
		return yaml_err(t, n, err, "name \"all\": `revert: all` means every fault");
	return r;
}

static int read_may_miss(struct yaml_tree *t, yaml_node_t *n, void *object, struct err **err)
{
	return yaml_bool(t, n, &((struct step_keys *)object)->step->may_miss, err);
}

static int read_may_fail(struct yaml_tree *t, yaml_node_t *n, void *object, struct err **err)
{
	return yaml_bool(t, n, &((struct step_keys *)object)->step->may_fail, err);
}

static const struct yaml_key step_table[] = {
	{"inject", false, keep_inject},	      {"name", false, read_step_name},
	{"target", false, keep_target},	      {"for", false, keep_duration},
	{"params", false, keep_params},	      {"mayMiss", false, read_may_miss},
	{"wait", false, keep_wait},	      {"limit", false, keep_limit},
	{"mayFail", false, read_may_fail},    {"revert", false, keep_revert},
	{"parallel", false, keep_parallel},   {"repeat", false, keep_repeat},
	{"steps", false, keep_steps},	      {NULL, false, NULL},
};

/* The value that the words are about ("FAULT: NAME: ..."), else the whole. */
static yaml_node_t *param_node(struct yaml_tree *t, yaml_node_t *n, const struct fault_spec *fault,
	struct err **err)
{
	const char *text = err ? err_text(*err) : "";
	size_t skip = strlen(fault->name) + 2;

	if (n->type != YAML_MAPPING_NODE || strlen(text) <= skip)
		return n;
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		yaml_node_t *key = yaml_document_get_node(&t->document, p->key);
		const char *name = (const char *)key->data.scalar.value;

		if (strncmp(text + skip, name, strlen(name)) == 0 && text[skip + strlen(name)] == ':')
			return yaml_document_get_node(&t->document, p->value);
	}
	return n;
}

/* Peers are names until the run resolves them; all else is checked and made canonical now. */
static int check_params(struct yaml_tree *t, yaml_node_t *n, struct step *s, struct err **err)
{
	_cleanup_(params_freep) struct params *params = NULL;

	if (params_from_json_unresolved(s->fault, s->params, &params, err) < 0)
		return yaml_wrap(t, param_node(t, n, s->fault, err), err);
	cJSON_Delete(s->params);
	s->params = params_to_json(params);
	return 0;
}

static int read_inject(struct yaml_tree *t, yaml_node_t *n, struct step_keys *k, struct err **err)
{
	struct step *s = k->step;
	_cleanup_free_ char *fault = NULL;
	_cleanup_free_ char *target = NULL;
	int r;

	s->kind = STEP_INJECT;
	r = yaml_text(t, k->inject, "a fault's name", &fault, err);
	if (r < 0)
		return r;
	if (catalogue_find(fault, &s->fault, err) < 0)
		return yaml_wrap(t, k->inject, err);
	if (!k->target)
		return yaml_err(t, n, err, "inject needs \"target\" (primary, replica, CLUSTER/MEMBER)");
	r = yaml_text(t, k->target, "a target", &target, err);
	if (r < 0)
		return r;
	if (selector_parse(target, &s->target, err) < 0)
		return yaml_wrap(t, k->target, err);
	if (!k->duration)
		return yaml_err(t, n, err, "inject needs \"for\": how long at most, such as 30s");
	r = yaml_duration(t, k->duration, &s->duration_ns, err);
	if (r < 0)
		return r;
	if (s->duration_ns < NS_PER_MS)
		return yaml_err(t, k->duration, err, "\"for\" must be at least 1ms");
	if (k->params) {
		r = yaml_params(t, k->params, &s->params, err);
		if (r < 0)
			return r;
	}
	return check_params(t, k->params ? k->params : k->inject, s, err);
}

static int read_wait(struct yaml_tree *t, struct step_keys *k, struct err **err)
{
	struct step *s = k->step;
	_cleanup_free_ char *what = NULL;
	int r = yaml_text(t, k->wait, "a condition or a duration", &what, err);

	if (r < 0)
		return r;
	s->kind = STEP_WAIT;
	s->limit_ns = WAIT_LIMIT_DEFAULT;
	if (k->limit) {
		r = yaml_duration(t, k->limit, &s->limit_ns, err);
		if (r < 0)
			return r;
	}
	if (condition_from_string(what, &s->condition) >= 0) {
		if (s->condition == WAIT_TIME && !k->limit)
			return yaml_err(t, k->wait, err, "wait: time needs \"limit\": how long");
		return 0;
	}
	s->condition = WAIT_TIME;
	if (k->limit && duration_parse(what, &s->limit_ns, NULL) >= 0)
		return yaml_err(t, k->limit, err, "a wait for a duration has no limit");
	if (duration_parse(what, &s->limit_ns, NULL) < 0)
		return yaml_err(t, k->wait, err,
			"wait: \"%s\": expected promoted, demoted, streaming, writes, reads, reverted, "
			"time, or a duration such as 5s",
			what);
	return 0;
}

static int read_one_step(struct yaml_tree *t, yaml_node_t *n, void *object, struct err **err);

static int read_steps(struct yaml_tree *t, yaml_node_t *n, struct step **items, size_t *count,
	unsigned depth, struct err **err)
{
	struct steps s = {items, count, depth};
	int r;

	if (depth > STEPS_DEPTH_MAX)
		return yaml_err(t, n, err, "steps nest deeper than %d", STEPS_DEPTH_MAX);
	r = yaml_each(t, n, "steps", read_one_step, &s, err);

	if (r >= 0 && !*count)
		return yaml_err(t, n, err, "expected at least one step");
	return r;
}

static int read_step_keys(struct yaml_tree *t, yaml_node_t *n, struct step_keys *k,
	struct err **err)
{
	struct step *s = k->step;
	uint64_t count;
	int kinds = !!k->inject + !!k->wait + !!k->revert + !!k->parallel + !!k->repeat, r;

	if (kinds != 1)
		return yaml_err(t, n, err,
			"a step is one of inject, wait, revert, parallel, repeat; this has %d of them",
			kinds);
	if (!k->inject && (k->params || k->target || k->duration || s->may_miss || s->name))
		return yaml_err(t, n, err, "name, target, for, params and mayMiss belong to inject");
	if (!k->wait && (k->limit || s->may_fail))
		return yaml_err(t, n, err, "limit and mayFail belong to wait");
	if (!k->repeat != !k->steps)
		return yaml_err(t, n, err, "repeat: COUNT and steps: go together");
	if (k->inject)
		return read_inject(t, n, k, err);
	if (k->wait)
		return read_wait(t, k, err);
	if (k->revert) {
		s->kind = STEP_REVERT;
		r = text_replace(t, k->revert, &s->reverts, err);
		if (r >= 0 && strcmp(s->reverts, "all") == 0) {
			free(s->reverts);
			s->reverts = NULL;
		}
		return r;
	}
	if (k->parallel) {
		s->kind = STEP_PARALLEL;
		return read_steps(t, k->parallel, &s->steps, &s->n_steps, k->depth + 1, err);
	}
	s->kind = STEP_REPEAT;
	r = yaml_count(t, k->repeat, 1, 1000, &count, err);
	if (r < 0)
		return r;
	s->count = (unsigned)count;
	return read_steps(t, k->steps, &s->steps, &s->n_steps, k->depth + 1, err);
}

/* A list inside `parallel` is a branch: steps one after another. */
static int read_one_step(struct yaml_tree *t, yaml_node_t *n, void *object, struct err **err)
{
	struct steps *list = object;
	struct step_keys k = {.depth = list->depth};
	int r;

	*list->items = reallocarray(*list->items, *list->count + 1, sizeof(**list->items));
	if (!*list->items)
		abort();
	k.step = &(*list->items)[(*list->count)++];
	*k.step = (struct step){.place = yaml_place(n), .kind = STEP_SEQUENCE};
	if (n->type == YAML_SEQUENCE_NODE)
		return read_steps(t, n, &k.step->steps, &k.step->n_steps, list->depth + 1, err);
	r = yaml_mapping(t, n, "a step", step_table, &k, err);
	return r < 0 ? r : read_step_keys(t, n, &k, err);
}

static int read_drill_steps(struct yaml_tree *t, yaml_node_t *n, void *object, struct err **err)
{
	struct drill *d = object;

	return read_steps(t, n, &d->steps, &d->n_steps, 1, err);
}

/* ---- the blocks ---- */

static int yaml_interval(struct yaml_tree *t, yaml_node_t *n, uint64_t *ret_ns, struct err **err)
{
	uint64_t ns;
	int r = yaml_duration(t, n, &ns, err);

	if (r < 0)
		return r;
	if (ns < NS_PER_MS || ns > 60 * NS_PER_S)
		return yaml_err(t, n, err, "expected 1ms to 1m");
	*ret_ns = ns;
	return 0;
}

READ_MEMBER(read_name, struct drill, name, text_replace)
READ_MEMBER(read_summary, struct drill, summary, text_replace)
READ_MEMBER(read_expected, struct drill, expected, text_replace)
READ_MEMBER(read_sources, struct drill, sources, texts_replace)
READ_MEMBER(read_steady_lag, struct drill, steady_lag_bytes, yaml_bytes_positive)
READ_MEMBER(read_steady_for, struct drill, steady_for_ns, yaml_duration_positive)
READ_MEMBER(read_steady_limit, struct drill, steady_limit_ns, yaml_duration_positive)
READ_MEMBER(read_interval, struct drill, interval_ns, yaml_interval)
READ_MEMBER(read_fresh, struct drill, fresh_interval_ns, yaml_interval)
READ_MEMBER(read_slow, struct drill, slow_ns, yaml_duration_positive)
READ_MEMBER(read_recovery_limit, struct drill, recovery_limit_ns, yaml_duration_positive)
READ_MEMBER(read_abort_lag, struct drill, abort_lag_bytes, yaml_bytes_positive)
READ_MEMBER(read_abort_time, struct drill, abort_time_ns, yaml_duration_positive)
READ_MEMBER(read_abort_down, struct drill, abort_writes_down_ns, yaml_duration_positive)

static int read_steady_instances(struct yaml_tree *t, yaml_node_t *n, void *object,
	struct err **err)
{
	struct drill *d = object;
	uint64_t count;
	int r = yaml_count(t, n, 1, 100, &count, err);

	if (r >= 0)
		d->steady_instances = (unsigned)count;
	return r;
}

#define READ_BLOCK(name, words, ...)                                                          \
	static const struct yaml_key name##_table[] = {__VA_ARGS__, {NULL, false, NULL}};     \
	static int read_##name(struct yaml_tree *t, yaml_node_t *n, void *object,             \
		struct err **err)                                                             \
	{                                                                                     \
		return yaml_mapping(t, n, words, name##_table, object, err);                  \
	}

READ_BLOCK(steady, "steadyState", {"instances", false, read_steady_instances},
	{"lag", false, read_steady_lag}, {"for", false, read_steady_for},
	{"limit", false, read_steady_limit})
READ_BLOCK(probes, "probes", {"interval", false, read_interval}, {"fresh", false, read_fresh},
	{"slow", false, read_slow})
READ_BLOCK(recovery, "recovery", {"limit", false, read_recovery_limit})
READ_BLOCK(abort, "abort", {"lag", false, read_abort_lag}, {"time", false, read_abort_time},
	{"writesDown", false, read_abort_down})

struct expect_bound {
	struct drill *drill;
	const char *key;
	yaml_node_t *key_node;
};

static int add_expectation(struct yaml_tree *t, struct drill *d, const char *key, const char *op,
	yaml_node_t *value, yaml_node_t *key_node, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	struct expectation e = {0};
	int r = yaml_text(t, value, "what is expected", &text, err);

	if (r < 0)
		return r;
	if (expectation_parse(key, op, text, &e, err) < 0)
		return yaml_wrap(t, key_node, err);
	d->expectations = reallocarray(d->expectations, d->n_expectations + 1,
		sizeof(*d->expectations));
	if (!d->expectations)
		abort();
	d->expectations[d->n_expectations++] = e;
	return 0;
}

static int read_bound(struct yaml_tree *t, const char *op, yaml_node_t *value, void *object,
	struct err **err)
{
	struct expect_bound *b = object;

	return add_expectation(t, b->drill, b->key, op, value, b->key_node, err);
}

static int read_expectation(struct yaml_tree *t, const char *key, yaml_node_t *value, void *object,
	struct err **err)
{
	struct expect_bound b = {object, key, t->key};

	if (value->type == YAML_MAPPING_NODE)
		return yaml_each_pair(t, value, key, read_bound, &b, err);
	return add_expectation(t, object, key, "max", value, b.key_node, err);
}

static int read_expect(struct yaml_tree *t, yaml_node_t *n, void *object, struct err **err)
{
	return yaml_each_pair(t, n, "expect", read_expectation, object, err);
}

/* Read before all else, by drill_read_vars(). */
static int skip(struct yaml_tree *t, yaml_node_t *n, void *object, struct err **err)
{
	(void)t;
	(void)n;
	(void)object;
	(void)err;
	return 0;
}

static const struct yaml_key drill_table[] = {
	{"drill", true, read_name},
	{"summary", true, read_summary},
	{"expectedBehaviour", false, read_expected},
	{"sources", false, read_sources},
	{"vars", false, skip},
	{"steadyState", false, read_steady},
	{"probes", false, read_probes},
	{"steps", true, read_drill_steps},
	{"recovery", false, read_recovery},
	{"expect", false, read_expect},
	{"abort", false, read_abort},
	{NULL, false, NULL},
};

static int read_var(struct yaml_tree *t, const char *key, yaml_node_t *value, void *object,
	struct err **err)
{
	struct drill *d = object;
	char *text;
	int r;

	if (!id_is_valid(key))
		return yaml_err(t, t->key, err,
			"variable \"%s\": lower-case letters, digits and \"-\" are allowed", key);
	r = yaml_text(t, value, "a variable's value", &text, err);
	if (r < 0)
		return r;
	d->vars = reallocarray(d->vars, d->n_vars + 1, sizeof(*d->vars));
	if (!d->vars)
		abort();
	d->vars[d->n_vars++] = (struct yaml_var){strdup(key), text};
	return 0;
}

int drill_read_vars(struct yaml_tree *t, struct drill *d, struct err **err)
{
	yaml_node_t *root = yaml_tree_root(t);

	if (root->type != YAML_MAPPING_NODE)
		return yaml_err(t, root, err, "expected a drill as a mapping");
	for (yaml_node_pair_t *p = root->data.mapping.pairs.start;
		p < root->data.mapping.pairs.top; p++) {
		yaml_node_t *key = yaml_document_get_node(&t->document, p->key);

		if (key->type == YAML_SCALAR_NODE &&
			strcmp((const char *)key->data.scalar.value, "vars") == 0)
			return yaml_each_pair(t, yaml_document_get_node(&t->document, p->value),
				"vars", read_var, d, err);
	}
	return 0;
}

int drill_read(struct yaml_tree *t, struct drill *d, struct err **err)
{
	return yaml_mapping(t, yaml_tree_root(t), "a drill", drill_table, d, err);
}
