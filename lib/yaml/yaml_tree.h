/*
 * YAML as a tree whose nodes know their place (libyaml's document API), read by tables. Errors are
 * FILE:LINE:COLUMN: what was found, what was expected. Unknown and duplicate keys are errors.
 */
#pragma once

#include <stdbool.h>
#include <yaml.h>
#include "core/err.h"
#include "core/json.h"

struct place {
	unsigned line, column;	/* from 1 */
};

struct yaml_var {
	char *name, *value;
};

struct yaml_tree {
	const char *file;
	yaml_document_t document;
	bool loaded;
	yaml_node_t *key;	/* of the pair that is being read: where words on a key point */
	/* ${name} in scalars is replaced by these. */
	const struct yaml_var *vars;
	size_t n_vars;
};

int yaml_tree_load(const char *file, const char *text, size_t length, struct yaml_tree *ret,
	struct err **err);
void yaml_tree_done(struct yaml_tree *t);
yaml_node_t *yaml_tree_root(struct yaml_tree *t);

/* err_set with the node's place in front. */
int yaml_err(const struct yaml_tree *t, const yaml_node_t *n, struct err **err, const char *fmt,
	...) __attribute__((format(printf, 4, 5)));
/* Puts the node's place before the words that are there. */
int yaml_wrap(const struct yaml_tree *t, const yaml_node_t *n, struct err **err);

struct place yaml_place(const yaml_node_t *n);
/* Variables replaced; caller frees. -EINVAL unless it is a scalar. what: "a duration", for words. */
int yaml_text(struct yaml_tree *t, yaml_node_t *n, const char *what, char **ret, struct err **err);
int yaml_texts(struct yaml_tree *t, yaml_node_t *n, char ***ret, struct err **err);
int yaml_duration(struct yaml_tree *t, yaml_node_t *n, uint64_t *ret_ns, struct err **err);
/* Above 0: where 0 would stand for the default. */
int yaml_duration_positive(struct yaml_tree *t, yaml_node_t *n, uint64_t *ret_ns, struct err **err);
int yaml_bytes_positive(struct yaml_tree *t, yaml_node_t *n, uint64_t *ret, struct err **err);
int yaml_bytes(struct yaml_tree *t, yaml_node_t *n, uint64_t *ret, struct err **err);
int yaml_count(struct yaml_tree *t, yaml_node_t *n, uint64_t min, uint64_t max, uint64_t *ret,
	struct err **err);
int yaml_bool(struct yaml_tree *t, yaml_node_t *n, bool *ret, struct err **err);
/* A mapping of scalars and lists of scalars, as the JSON object of a fault's parameters. */
int yaml_params(struct yaml_tree *t, yaml_node_t *n, cJSON **ret, struct err **err);

/* Calls each key's reader. */
struct yaml_key {
	const char *name;
	bool required;
	int (*read)(struct yaml_tree *t, yaml_node_t *value, void *object, struct err **err);
};
/* keys end with name NULL, at most 63. what: "a drill", for words. */
int yaml_mapping(struct yaml_tree *t, yaml_node_t *n, const char *what,
	const struct yaml_key *keys, void *object, struct err **err);
/* Each item of a sequence. */
int yaml_each(struct yaml_tree *t, yaml_node_t *n, const char *what,
	int (*read)(struct yaml_tree *t, yaml_node_t *item, void *object, struct err **err),
	void *object, struct err **err);
/* Each pair of a mapping; key is a scalar's text. */
int yaml_each_pair(struct yaml_tree *t, yaml_node_t *n, const char *what,
	int (*read)(struct yaml_tree *t, const char *key, yaml_node_t *value, void *object,
		struct err **err),
	void *object, struct err **err);
