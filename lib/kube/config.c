#include "kube/config_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/durable.h"
#include "kube/base64.h"

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"

struct kube_config *kube_config_new(void)
{
	struct kube_config *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	for (size_t i = 0; i < ELEMENTS(c->fds); i++)
		c->fds[i] = -1;
	return c;
}

void kube_config_free(struct kube_config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < ELEMENTS(c->fds); i++)
		closep(&c->fds[i]);
	if (c->token)
		explicit_bzero(c->token, strlen(c->token));
	free(c->server);
	free(c->tls.ca);
	free(c->tls.cert);
	free(c->tls.key);
	free(c->tls.server_name);
	free(c->token_path);
	free(c->token);
	free(c->default_namespace);
	free(c->source);
	free(c);
}

static int write_all(int fd, const char *data, size_t length, struct err **err)
{
	while (length) {
		ssize_t n = write(fd, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "memfd");
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

int kube_config_data(struct kube_config *c, unsigned slot, const char *base64, char **ret,
	struct err **err)
{
	_cleanup_free_ char *data = NULL;
	_cleanup_close_ int fd = -1;
	size_t length = 0;
	int r = base64_decode(base64, &data, &length, err);

	if (r < 0)
		return r;
	fd = memfd_create("pgjolt-kubeconfig", MFD_CLOEXEC);
	if (fd < 0)
		r = err_errno(err, errno, "memfd_create");
	else
		r = write_all(fd, data, length, err);
	explicit_bzero(data, length);
	if (r < 0)
		return r;
	free(*ret);
	if (asprintf(ret, "/proc/self/fd/%d", fd) < 0)
		abort();
	closep(&c->fds[slot]);
	c->fds[slot] = steal_fd(&fd);
	return 0;
}

int kube_config_check(const struct kube_config *c, struct err **err)
{
	size_t n = strlen(c->server);
	bool https = strncmp(c->server, "https://", 8) == 0;

	if (!https && strncmp(c->server, "http://", 7) != 0)
		return err_set(err, -EINVAL, "server \"%s\": expected https://HOST[:PORT]", c->server);
	for (size_t i = 0; i < n; i++)
		if (c->server[i] <= ' ' || c->server[i] == 0x7f || strchr("?#@\\\"", c->server[i]))
			return err_set(err, -EINVAL, "server \"%s\": not a plain URL", c->server);
	/* Anybody on the way would read the token (kubectl proxy needs none). */
	if (!https && (c->token || c->token_path))
		return err_set(err, -EINVAL, "server \"%s\": a token is sent by https alone",
			c->server);
	if (!c->tls.cert != !c->tls.key)
		return err_set(err, -EINVAL, "a client certificate and its key come together");
	return 0;
}

static char *path_in(const char *folder, const char *name)
{
	char *path = NULL;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		abort();
	return path;
}

int kube_config_in_folder(const char *folder, struct kube_config **ret, struct err **err)
{
	_cleanup_(kube_config_freep) struct kube_config *c = kube_config_new();
	const char *host = getenv("KUBERNETES_SERVICE_HOST");
	const char *port = getenv("KUBERNETES_SERVICE_PORT");
	_cleanup_free_ char *namespace_path = path_in(folder, "namespace");
	size_t length = 0;
	int r;

	if (!host || !*host || !port || !*port)
		return err_set(err, -ENOENT,
			"not in a pod: KUBERNETES_SERVICE_HOST and _PORT are not set");
	c->token_path = path_in(folder, "token");
	c->tls.ca = path_in(folder, "ca.crt");
	if (access(c->token_path, F_OK) < 0 || access(c->tls.ca, F_OK) < 0)
		return err_set(err, -ENOENT,
			"no service account's token in %s (automountServiceAccountToken?)", folder);
	if (asprintf(&c->server, strchr(host, ':') ? "https://[%s]:%s" : "https://%s:%s", host,
		    port) < 0)
		abort();
	c->source = strdup("in-cluster");
	if (file_read(AT_FDCWD, namespace_path, 256, &c->default_namespace, &length, NULL) < 0)
		c->default_namespace = strdup("default");
	c->default_namespace[strcspn(c->default_namespace, " \t\r\n")] = 0;
	r = kube_config_check(c, err);
	if (r < 0)
		return err_wrap(err, r, "%s", c->source);
	*ret = steal_ptr(c);
	return 0;
}

int kube_config_in_cluster(struct kube_config **ret, struct err **err)
{
	return kube_config_in_folder(SERVICE_ACCOUNT, ret, err);
}

int kube_config_load(const char *path, const char *context, struct kube_config **ret,
	struct err **err)
{
	char *const paths[] = {(char *)path, NULL};

	return kube_config_load_files(paths, context, ret, err);
}

/* $KUBECONFIG is a list; what is not there is passed over, as kubectl does. */
static char **files_of_environment(void)
{
	const char *list = getenv("KUBECONFIG");
	char **paths = NULL;

	while (list && *list) {
		size_t n = strcspn(list, ":");
		char *path = strndup(list, n);

		if (!path)
			abort();
		if (n && access(path, F_OK) == 0)
			strv_push(&paths, steal_ptr(path));
		free(path);
		list += n + (list[n] == ':');
	}
	return paths;
}

int kube_config_find(const char *path, const char *context, struct kube_config **ret,
	struct err **err)
{
	_cleanup_strv_ char **paths = NULL;
	_cleanup_free_ char *own = NULL;
	const char *home = getenv("HOME");
	int r;

	if (path)
		return kube_config_load(path, context, ret, err);
	paths = files_of_environment();
	if (paths)
		return kube_config_load_files(paths, context, ret, err);
	/* A context is of a file: who names one does not mean the pod's account. */
	if (!context) {
		r = kube_config_in_cluster(ret, err);
		if (r != -ENOENT)
			return r;
	}
	if (home && asprintf(&own, "%s/.kube/config", home) < 0)
		abort();
	if (own && access(own, F_OK) == 0)
		return kube_config_load(own, context, ret, err);
	return err_set(err, -ENOENT,
		"no Kubernetes configuration: no --kubeconfig, no $KUBECONFIG, no service account, no "
		"~/.kube/config");
}
