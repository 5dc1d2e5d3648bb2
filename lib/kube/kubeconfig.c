/* The file that kubectl reads (kubernetes.io/docs/reference/config-api/kubeconfig.v1). Unknown keys
 * are other tools' business; those that change who we are or whom we trust are read or refused. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

#include "core/durable.h"
#include "kube/config_internal.h"
#include "yaml/yaml_tree.h"

#define FILES_MAX 16

struct file {
	const char *path;
	struct yaml_tree tree;
};

struct files {
	struct file items[FILES_MAX];
	size_t count;
};

/* A mapping and the file that it is from, which its relative paths go by. */
struct entry {
	struct file *file;
	yaml_node_t *node;
};

static void files_done(struct files *f)
{
	for (size_t i = 0; i < f->count; i++)
		yaml_tree_done(&f->items[i].tree);
}

static const char *scalar(const yaml_node_t *n)
{
	if (!n || n->type != YAML_SCALAR_NODE ||
		strlen((const char *)n->data.scalar.value) != n->data.scalar.length)
		return NULL;
	return (const char *)n->data.scalar.value;
}

static yaml_node_t *child(struct file *f, yaml_node_t *map, const char *key)
{
	if (!map || map->type != YAML_MAPPING_NODE)
		return NULL;
	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
		p++) {
		const char *k = scalar(yaml_document_get_node(&f->tree.document, p->key));

		if (k && strcmp(k, key) == 0)
			return yaml_document_get_node(&f->tree.document, p->value);
	}
	return NULL;
}

/* NULL where it is absent or empty, as "" is for kubectl. */
static const char *text(struct entry e, const char *key)
{
	const char *s = scalar(child(e.file, e.node, key));

	return s && *s && strcmp(s, "~") != 0 && strcmp(s, "null") != 0 ? s : NULL;
}

static int files_load(struct files *f, char *const *paths, struct err **err)
{
	for (size_t i = 0; paths[i]; i++) {
		struct file *file = &f->items[f->count];
		_cleanup_free_ char *content = NULL;
		size_t length = 0;
		int r;

		if (f->count == FILES_MAX)
			return err_set(err, -EINVAL, "more than %d kubeconfig files", FILES_MAX);
		r = file_read(AT_FDCWD, paths[i], KUBE_FILE_MAX, &content, &length, err);
		if (r >= 0)
			r = yaml_tree_load(paths[i], content, length, &file->tree, err);
		if (content)
			explicit_bzero(content, length);
		if (r < 0)
			return r == -ENOENT ? err_set(err, -EINVAL, "%s: no such file", paths[i]) : r;
		file->path = paths[i];
		f->count++;
		if (yaml_tree_root(&file->tree)->type != YAML_MAPPING_NODE)
			return yaml_err(&file->tree, yaml_tree_root(&file->tree), err,
				"expected a kubeconfig");
	}
	return 0;
}

/* The entry called name of "contexts" (item "context"), "clusters", "users". */
static int find(struct files *f, const char *list, const char *item, const char *name,
	struct entry *ret, struct err **err)
{
	_cleanup_strv_ char **names = NULL;
	_cleanup_free_ char *all = strdup("");

	for (size_t i = 0; i < f->count; i++) {
		struct file *file = &f->items[i];
		yaml_node_t *seq = child(file, yaml_tree_root(&file->tree), list);

		if (!seq || seq->type != YAML_SEQUENCE_NODE)
			continue;
		for (yaml_node_item_t *p = seq->data.sequence.items.start;
			p < seq->data.sequence.items.top; p++) {
			yaml_node_t *n = yaml_document_get_node(&file->tree.document, *p);
			const char *own = scalar(child(file, n, "name"));
			yaml_node_t *inner = child(file, n, item);

			if (own && strcmp(own, name) == 0) {
				/* One that is empty has none of the keys: as its item has none. */
				*ret = (struct entry){file,
					inner && inner->type == YAML_MAPPING_NODE ? inner : n};
				return 0;
			}
			if (own)
				strv_push(&names, strdup(own));
		}
	}
	for (size_t i = 0; names && names[i]; i++) {
		char *longer = NULL;

		if (asprintf(&longer, "%s%s%s", all, i ? ", " : "", names[i]) < 0)
			abort();
		free(all);
		all = longer;
	}
	return err_set(err, -EINVAL, "%s: no %s \"%s\"; there are: %s", f->items[0].path, item, name,
		names ? all : "none");
}

/* Paths of a kubeconfig are relative to its folder. */
static char *absolute(struct entry e, const char *path)
{
	_cleanup_free_ char *copy = strdup(e.file->path);
	char *out = NULL;

	if (!copy)
		abort();
	if (asprintf(&out, "%s%s%s", path[0] == '/' ? "" : dirname(copy), path[0] == '/' ? "" : "/",
		    path) < 0)
		abort();
	return out;
}

/* KEY-data wins over KEY, as for kubectl. */
static int data_or_path(struct entry e, struct kube_config *c, const char *key, unsigned slot,
	char **ret, struct err **err)
{
	char data_key[64];
	const char *path = text(e, key), *data;

	snprintf(data_key, sizeof(data_key), "%s-data", key);
	data = text(e, data_key);
	if (data && kube_config_data(c, slot, data, ret, err) < 0)
		return err_wrap(err, -EINVAL, "%s: %s", e.file->path, data_key);
	if (!data && path)
		*ret = absolute(e, path);
	return 0;
}

/* Asked for by a key that we do not follow, because we cannot or should not. */
static int refuse(struct entry e, const char *const (*keys)[2], struct err **err)
{
	for (; (*keys)[0]; keys++) {
		yaml_node_t *n = child(e.file, e.node, (*keys)[0]);
		const char *s = scalar(n);

		if (n && !(s && (!*s || strcmp(s, "false") == 0 || strcmp(s, "null") == 0)))
			return yaml_err(&e.file->tree, n, err, "%s: %s", (*keys)[0], (*keys)[1]);
	}
	return 0;
}

static int read_cluster(struct entry e, struct kube_config *c, struct err **err)
{
	static const char *const refused[][2] = {
		{"insecure-skip-tls-verify", "the server's certificate is always verified here: give "
					     "certificate-authority-data"},
		{"proxy-url", "no proxy is used here: run `kubectl proxy` and give its URL as server"},
		{NULL, NULL},
	};
	const char *server = text(e, "server"), *name = text(e, "tls-server-name");
	int r = refuse(e, refused, err);

	if (r < 0)
		return r;
	if (!server)
		return yaml_err(&e.file->tree, e.node, err, "the cluster has no \"server\"");
	c->server = strdup(server);
	while (strlen(c->server) && c->server[strlen(c->server) - 1] == '/')
		c->server[strlen(c->server) - 1] = 0;
	if (name)
		c->tls.server_name = strdup(name);
	return data_or_path(e, c, "certificate-authority", 0, &c->tls.ca, err);
}

static int read_user(struct entry e, struct kube_config *c, struct err **err)
{
	static const char *const refused[][2] = {
		{"exec", "pgjolt runs no program to get credentials: give a token (`kubectl create "
			 "token`), a tokenFile or a client certificate"},
		{"auth-provider", "pgjolt runs no provider to get credentials: give a token, a "
				  "tokenFile or a client certificate"},
		{"as", "nobody is impersonated here"},
		{"username", "a password is no way in since Kubernetes 1.19: give a token or a client "
			     "certificate"},
		{NULL, NULL},
	};
	const char *token = text(e, "token"), *file = text(e, "tokenFile");
	int r;

	/* Credentials that are there besides a program are enough. */
	if (!token && !file && !text(e, "client-certificate") && !text(e, "client-certificate-data")) {
		r = refuse(e, refused, err);
		if (r < 0)
			return r;
	} else {
		r = refuse(e, refused + 2, err);
		if (r < 0)
			return r;
	}
	/* The file is read again for each request, so that it wins, as for kubectl. */
	if (file)
		c->token_path = absolute(e, file);
	else if (token)
		c->token = strdup(token);
	r = data_or_path(e, c, "client-certificate", 1, &c->tls.cert, err);
	return r < 0 ? r : data_or_path(e, c, "client-key", 2, &c->tls.key, err);
}

static const char *current_context(struct files *f)
{
	for (size_t i = 0; i < f->count; i++) {
		struct entry root = {&f->items[i], yaml_tree_root(&f->items[i].tree)};
		const char *s = text(root, "current-context");

		if (s)
			return s;
	}
	return NULL;
}

static int read_context(struct files *f, const char *name, struct kube_config *c, struct err **err)
{
	struct entry context, cluster, user;
	const char *namespace;
	int r;

	if (!name)
		name = current_context(f);
	if (!name)
		return err_set(err, -EINVAL, "%s: no current-context: name one with --context",
			f->items[0].path);
	r = find(f, "contexts", "context", name, &context, err);
	if (r < 0)
		return r;
	if (!text(context, "cluster"))
		return yaml_err(&context.file->tree, context.node, err,
			"context \"%s\" has no \"cluster\"", name);
	r = find(f, "clusters", "cluster", text(context, "cluster"), &cluster, err);
	if (r >= 0)
		r = read_cluster(cluster, c, err);
	if (r >= 0 && text(context, "user")) {
		r = find(f, "users", "user", text(context, "user"), &user, err);
		if (r >= 0)
			r = read_user(user, c, err);
	}
	if (r < 0)
		return r;
	namespace = text(context, "namespace");
	c->default_namespace = strdup(namespace ? namespace : "default");
	if (asprintf(&c->source, "%s, context %s", context.file->path, name) < 0)
		abort();
	r = kube_config_check(c, err);
	return r < 0 ? err_wrap(err, r, "%s", c->source) : 0;
}

int kube_config_load_files(char *const *paths, const char *context, struct kube_config **ret,
	struct err **err)
{
	_cleanup_(kube_config_freep) struct kube_config *c = kube_config_new();
	struct files f = {0};
	int r = files_load(&f, paths, err);

	if (r >= 0)
		r = read_context(&f, context, c, err);
	files_done(&f);
	if (r < 0)
		return r;
	*ret = steal_ptr(c);
	return 0;
}
