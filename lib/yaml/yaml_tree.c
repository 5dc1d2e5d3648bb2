#include "yaml/yaml_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/units.h"

#define TEXT_MAX (1UL << 20)
/* Of one mapping. No drill needs as many, and duplicates are looked for by comparing all. */
#define PAIRS_MAX 256

struct place yaml_place(const yaml_node_t *n)
{
	return (struct place){(unsigned)n->start_mark.line + 1, (unsigned)n->start_mark.column + 1};
}

int yaml_err(const struct yaml_tree *t, const yaml_node_t *n, struct err **err, const char *fmt, ...)
{
	_cleanup_free_ char *words = NULL;
	struct place p = yaml_place(n);
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&words, fmt, ap);
	va_end(ap);
	return err_set(err, -EINVAL, "%s:%u:%u: %s", t->file, p.line, p.column,
		r < 0 ? "out of memory" : words);
}

int yaml_wrap(const struct yaml_tree *t, const yaml_node_t *n, struct err **err)
{
	struct place p = yaml_place(n);

	return err_wrap(err, -EINVAL, "%s:%u:%u", t->file, p.line, p.column);
}

void yaml_tree_done(struct yaml_tree *t)
{
	if (t->loaded)
		yaml_document_delete(&t->document);
	t->loaded = false;
}

static int check_once(struct yaml_tree *t, yaml_node_t *parent, unsigned char *seen, int child,
	struct err **err)
{
	return seen[child]++ ? yaml_err(t, parent, err, "aliases (*name) are not allowed") : 0;
}

/* An alias to an ancestor would make the tree endless, and one to a sibling can make it explode.
 * Drills need neither, so a node has one parent. */
static int check_no_aliases(struct yaml_tree *t, struct err **err)
{
	size_t count = (size_t)(t->document.nodes.top - t->document.nodes.start);
	_cleanup_free_ unsigned char *seen = calloc(count + 1, 1);
	int r = 0;

	if (!seen)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; r >= 0 && i < count; i++) {
		yaml_node_t *n = &t->document.nodes.start[i];

		if (n->type == YAML_SEQUENCE_NODE) {
			for (yaml_node_item_t *p = n->data.sequence.items.start;
				r >= 0 && p < n->data.sequence.items.top; p++)
				r = check_once(t, n, seen, *p, err);
		} else if (n->type == YAML_MAPPING_NODE) {
			for (yaml_node_pair_t *p = n->data.mapping.pairs.start;
				r >= 0 && p < n->data.mapping.pairs.top; p++) {
				r = check_once(t, n, seen, p->key, err);
				if (r >= 0)
					r = check_once(t, n, seen, p->value, err);
			}
		}
	}
	return r;
}

struct source {
	const char *text;
	size_t length;
};

/* What libyaml has against the text. Its reader, which sees bytes alone, knows an offset instead of a
 * line. */
static int parser_err(const yaml_parser_t *parser, const struct yaml_tree *t, const struct source *s,
	struct err **err)
{
	size_t line = parser->problem_mark.line + 1, column = parser->problem_mark.column + 1;

	if (parser->error == YAML_MEMORY_ERROR)
		return err_set(err, -ENOMEM, "out of memory");
	if (parser->error == YAML_READER_ERROR) {
		line = column = 1;
		for (size_t i = 0; i < parser->problem_offset && i < s->length; i++) {
			bool starts_character = ((unsigned char)s->text[i] & 0xc0) != 0x80;

			column = s->text[i] == '\n' ? 1 : column + starts_character;
			line += s->text[i] == '\n';
		}
	}
	return err_set(err, -EINVAL, "%s:%zu:%zu: %s", t->file, line, column,
		parser->problem ? parser->problem : "not YAML");
}

static int load(yaml_parser_t *parser, struct yaml_tree *t, const struct source *s,
	struct err **err)
{
	yaml_document_t second;
	int r;

	if (!yaml_parser_load(parser, &t->document))
		return parser_err(parser, t, s, err);
	t->loaded = true;
	if (!yaml_document_get_root_node(&t->document))
		return err_set(err, -EINVAL, "%s:1:1: the file is empty; expected a document", t->file);
	r = check_no_aliases(t, err);
	if (r < 0)
		return r;
	if (!yaml_parser_load(parser, &second))
		return parser_err(parser, t, s, err);
	if (yaml_document_get_root_node(&second))
		r = err_set(err, -EINVAL, "%s:%zu:1: one document a file", t->file,
			second.start_mark.line + 1);
	yaml_document_delete(&second);
	return r;
}

int yaml_tree_load(const char *file, const char *text, size_t length, struct yaml_tree *ret,
	struct err **err)
{
	struct yaml_tree t = {.file = file};
	const struct source source = {text, length};
	yaml_parser_t parser;
	int r;

	if (length > TEXT_MAX)
		return err_set(err, -EINVAL, "%s: longer than %lu bytes", file, TEXT_MAX);
	if (!yaml_parser_initialize(&parser))
		return err_set(err, -ENOMEM, "out of memory");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
	r = load(&parser, &t, &source, err);
	yaml_parser_delete(&parser);
	if (r < 0) {
		yaml_tree_done(&t);
		return r;
	}
	*ret = t;
	return 0;
}

yaml_node_t *yaml_tree_root(struct yaml_tree *t)
{
	return yaml_document_get_root_node(&t->document);
}

static const char *node_kind(const yaml_node_t *n)
{
	switch (n->type) {
	case YAML_SCALAR_NODE:
		return "a scalar";
	case YAML_SEQUENCE_NODE:
		return "a list";
	case YAML_MAPPING_NODE:
		return "a mapping";
	default:
		return "nothing";
	}
}

static const char *var_value(const struct yaml_tree *t, const char *name, size_t length)
{
	for (size_t i = 0; i < t->n_vars; i++)
		if (strlen(t->vars[i].name) == length && !memcmp(t->vars[i].name, name, length))
			return t->vars[i].value;
	return NULL;
}

/* "${name}" by the drill's variables, "$$" for a dollar. */
static int expand(const struct yaml_tree *t, const yaml_node_t *n, const char *s, char **ret,
	struct err **err)
{
	_cleanup_free_ char *out = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&out, &length);

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	while (*s) {
		const char *end, *value;

		if (s[0] != '$') {
			fputc(*s++, f);
			continue;
		}
		if (s[1] == '$') {
			fputc('$', f);
			s += 2;
			continue;
		}
		end = s[1] == '{' ? strchr(s, '}') : NULL;
		value = end ? var_value(t, s + 2, (size_t)(end - s - 2)) : NULL;
		if (!value) {
			fclose(f);
			if (!end)
				return yaml_err(t, n, err,
					"\"$\" begins a variable, ${name}; write $$ for a dollar");
			return yaml_err(t, n, err, "no variable \"%.*s\" in vars", (int)(end - s - 2),
				s + 2);
		}
		fputs(value, f);
		s = end + 1;
	}
	if (fclose(f))
		return err_set(err, -ENOMEM, "out of memory");
	*ret = steal_ptr(out);
	return 0;
}

int yaml_text(struct yaml_tree *t, yaml_node_t *n, const char *what, char **ret, struct err **err)
{
	const char *s;

	if (n->type != YAML_SCALAR_NODE)
		return yaml_err(t, n, err, "expected %s, found %s", what, node_kind(n));
	s = (const char *)n->data.scalar.value;
	if (strlen(s) != n->data.scalar.length)
		return yaml_err(t, n, err, "a NUL byte in %s", what);
	return expand(t, n, s, ret, err);
}

int yaml_texts(struct yaml_tree *t, yaml_node_t *n, char ***ret, struct err **err)
{
	_cleanup_strv_ char **list = NULL;
	char *text;
	int r;

	if (n->type != YAML_SEQUENCE_NODE) {
		r = yaml_text(t, n, "a text or a list of texts", &text, err);
		if (r < 0)
			return r;
		strv_push(&list, text);
		*ret = steal_ptr(list);
		return 0;
	}
	for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
		r = yaml_text(t, yaml_document_get_node(&t->document, *i), "a text", &text, err);
		if (r < 0)
			return r;
		strv_push(&list, text);
	}
	*ret = steal_ptr(list);
	return 0;
}

int yaml_duration(struct yaml_tree *t, yaml_node_t *n, uint64_t *ret_ns, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	int r = yaml_text(t, n, "a duration such as 30s", &text, err);

	if (r < 0)
		return r;
	return duration_parse(text, ret_ns, err) < 0 ? yaml_wrap(t, n, err) : 0;
}

int yaml_duration_positive(struct yaml_tree *t, yaml_node_t *n, uint64_t *ret_ns, struct err **err)
{
	uint64_t ns;
	int r = yaml_duration(t, n, &ns, err);

	if (r < 0)
		return r;
	if (!ns)
		return yaml_err(t, n, err, "expected more than 0");
	*ret_ns = ns;
	return 0;
}

int yaml_bytes_positive(struct yaml_tree *t, yaml_node_t *n, uint64_t *ret, struct err **err)
{
	uint64_t bytes;
	int r = yaml_bytes(t, n, &bytes, err);

	if (r < 0)
		return r;
	if (!bytes)
		return yaml_err(t, n, err, "expected more than 0");
	*ret = bytes;
	return 0;
}

int yaml_bytes(struct yaml_tree *t, yaml_node_t *n, uint64_t *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	int r = yaml_text(t, n, "an amount such as 16MiB", &text, err);

	if (r < 0)
		return r;
	return bytes_parse(text, ret, err) < 0 ? yaml_wrap(t, n, err) : 0;
}

int yaml_count(struct yaml_tree *t, yaml_node_t *n, uint64_t min, uint64_t max, uint64_t *ret,
	struct err **err)
{
	_cleanup_free_ char *text = NULL;
	int r = yaml_text(t, n, "a number", &text, err);

	if (r < 0)
		return r;
	return count_parse(text, min, max, ret, err) < 0 ? yaml_wrap(t, n, err) : 0;
}

int yaml_bool(struct yaml_tree *t, yaml_node_t *n, bool *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	int r = yaml_text(t, n, "true or false", &text, err);

	if (r < 0)
		return r;
	if (strcmp(text, "true") && strcmp(text, "false"))
		return yaml_err(t, n, err, "expected true or false, found \"%s\"", text);
	*ret = text[0] == 't';
	return 0;
}

static int read_param(struct yaml_tree *t, const char *key, yaml_node_t *value, void *object,
	struct err **err)
{
	_cleanup_strv_ char **list = NULL;
	_cleanup_free_ char *text = NULL;
	int r;

	if (value->type == YAML_SEQUENCE_NODE) {
		r = yaml_texts(t, value, &list, err);
		if (r >= 0)
			json_add_strv(object, key, list);
		return r;
	}
	r = yaml_text(t, value, "a parameter's value", &text, err);
	/* A variable without a value leaves the parameter to its default. */
	if (r < 0 || (!text[0] && value->data.scalar.length))
		return r;
	if (value->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
		(strcmp(text, "true") == 0 || strcmp(text, "false") == 0))
		json_add_bool(object, key, text[0] == 't');
	else
		json_add_string(object, key, text);
	return 0;
}

int yaml_params(struct yaml_tree *t, yaml_node_t *n, cJSON **ret, struct err **err)
{
	_cleanup_json_ cJSON *json = json_object();
	int r = yaml_each_pair(t, n, "parameters", read_param, json, err);

	if (r < 0)
		return r;
	*ret = steal_ptr(json);
	return 0;
}

static int key_text(struct yaml_tree *t, yaml_node_t *n, yaml_node_pair_t *pair, const char **ret,
	struct err **err)
{
	yaml_node_t *key = yaml_document_get_node(&t->document, pair->key);

	if (key->type != YAML_SCALAR_NODE)
		return yaml_err(t, key, err, "expected a key, found %s", node_kind(key));
	*ret = (const char *)key->data.scalar.value;
	if (strlen(*ret) != key->data.scalar.length)
		return yaml_err(t, key, err, "a NUL byte in a key");
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < pair; p++) {
		yaml_node_t *other = yaml_document_get_node(&t->document, p->key);

		if (strcmp((const char *)other->data.scalar.value, *ret) == 0)
			return yaml_err(t, key, err, "\"%s\" is there twice", *ret);
	}
	return 0;
}

int yaml_each_pair(struct yaml_tree *t, yaml_node_t *n, const char *what,
	int (*read)(struct yaml_tree *t, const char *key, yaml_node_t *value, void *object,
		struct err **err),
	void *object, struct err **err)
{
	if (n->type != YAML_MAPPING_NODE)
		return yaml_err(t, n, err, "expected %s as a mapping, found %s", what, node_kind(n));
	if (n->data.mapping.pairs.top - n->data.mapping.pairs.start > PAIRS_MAX)
		return yaml_err(t, n, err, "more than %d keys in %s", PAIRS_MAX, what);
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		const char *key = NULL;
		int r = key_text(t, n, p, &key, err);

		t->key = yaml_document_get_node(&t->document, p->key);
		if (r >= 0)
			r = read(t, key, yaml_document_get_node(&t->document, p->value), object, err);
		if (r < 0)
			return r;
	}
	return 0;
}

struct mapping {
	const struct yaml_key *keys;
	const char *what;
	void *object;
	uint64_t seen;
};

static int unknown_key(struct yaml_tree *t, const struct mapping *m, const char *key,
	struct err **err)
{
	_cleanup_free_ char *known = strdup("");

	for (const struct yaml_key *k = m->keys; k->name; k++) {
		char *longer = NULL;

		if (asprintf(&longer, "%s%s%s", known, k == m->keys ? "" : ", ", k->name) < 0)
			abort();
		free(known);
		known = longer;
	}
	return yaml_err(t, t->key, err, "unknown key \"%s\" in %s; it has: %s", key, m->what, known);
}

static int read_key(struct yaml_tree *t, const char *key, yaml_node_t *value, void *object,
	struct err **err)
{
	struct mapping *m = object;

	for (size_t i = 0; m->keys[i].name; i++) {
		if (strcmp(m->keys[i].name, key) == 0) {
			m->seen |= 1ULL << i;
			return m->keys[i].read(t, value, m->object, err);
		}
	}
	return unknown_key(t, m, key, err);
}

int yaml_mapping(struct yaml_tree *t, yaml_node_t *n, const char *what,
	const struct yaml_key *keys, void *object, struct err **err)
{
	struct mapping m = {.keys = keys, .what = what, .object = object};
	int r = yaml_each_pair(t, n, what, read_key, &m, err);

	for (size_t i = 0; r >= 0 && keys[i].name; i++)
		if (keys[i].required && !(m.seen & 1ULL << i))
			return yaml_err(t, n, err, "%s needs \"%s\"", what, keys[i].name);
	return r;
}

int yaml_each(struct yaml_tree *t, yaml_node_t *n, const char *what,
	int (*read)(struct yaml_tree *t, yaml_node_t *item, void *object, struct err **err),
	void *object, struct err **err)
{
	if (n->type != YAML_SEQUENCE_NODE)
		return yaml_err(t, n, err, "expected %s as a list, found %s", what, node_kind(n));
	for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
		int r = read(t, yaml_document_get_node(&t->document, *i), object, err);

		if (r < 0)
			return r;
	}
	return 0;
}
