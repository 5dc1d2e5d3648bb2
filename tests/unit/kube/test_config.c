#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kube/kube.h"

static char folder[64];

static void file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	cr_assert(f, "%s", path);
	fputs(text, f);
	fclose(f);
}

static const char *path_of(const char *name)
{
	static char paths[4][128];
	static unsigned next;
	char *p = paths[next++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/%s", folder, name);
	return p;
}

static void set_up(void)
{
	snprintf(folder, sizeof(folder), "/tmp/pj-kubeconfig-XXXXXX");
	cr_assert(mkdtemp(folder));
	unsetenv("KUBECONFIG");
	unsetenv("KUBERNETES_SERVICE_HOST");
	setenv("HOME", folder, 1);
}

static void tear_down(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", folder);
	(void)!system(command);
}

TestSuite(kube_config, .init = set_up, .fini = tear_down, .timeout = 20);

#define CLUSTERS "apiVersion: v1\nkind: Config\nclusters:\n"                                        \
	"- name: c\n  cluster: {server: 'https://10.0.0.1:6443/', certificate-authority: ca.pem}\n" \
	"- name: d\n  cluster: {server: 'https://d', certificate-authority-data: aGVsbG8=}\n"
#define CONTEXTS "contexts:\n- name: one\n  context: {cluster: c, user: u}\n"                        \
	"- name: two\n  context: {cluster: d, user: data, namespace: db}\n"                         \
	"- name: run\n  context: {cluster: c, user: exec}\n"                                        \
	"current-context: one\n"
#define USERS "users:\n- name: u\n  user: {token: $ecret}\n"                                         \
	"- name: data\n  user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}\n"        \
	"- name: exec\n  user:\n    exec: {command: aws, args: [eks]}\n"

static struct kube_config *load(const char *context)
{
	struct kube_config *c = NULL;
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(kube_config_load(path_of("config"), context, &c, &err), 0, "%s", err_text(err));
	return c;
}

static void refused(const char *context, const char *words)
{
	struct kube_config *c = NULL;
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(kube_config_load(path_of("config"), context, &c, &err), -EINVAL, "%s", words);
	cr_assert(strstr(err_text(err), words), "%s", err_text(err));
	cr_assert_null(c);
}

Test(kube_config, context)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL;

	file("config", CLUSTERS CONTEXTS USERS);
	c = load(NULL);
	cr_assert_str_eq(c->server, "https://10.0.0.1:6443");
	cr_assert_str_eq(c->tls.ca, path_of("ca.pem"));
	cr_assert_str_eq(c->token, "$ecret");
	cr_assert_str_eq(c->default_namespace, "default");
	cr_assert(strstr(c->source, "config, context one"), "%s", c->source);
}

static void holds(const char *path, const char *expected)
{
	char text[64];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	cr_assert_gt(n, 0, "%s", path);
	text[n] = 0;
	close(fd);
	cr_assert_str_eq(text, expected);
}

Test(kube_config, data_lies_in_memory)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL;

	file("config", CLUSTERS CONTEXTS USERS);
	c = load("two");
	cr_assert_str_eq(c->default_namespace, "db");
	/* Each opening reads from the begin. */
	for (int i = 0; i < 2; i++) {
		holds(c->tls.ca, "hello");
		holds(c->tls.cert, "cert");
		holds(c->tls.key, "key");
	}
}

Test(kube_config, programs_are_not_run)
{
	file("config", CLUSTERS CONTEXTS USERS);
	refused("run", "config:23:11: exec: pgjolt runs no program");
	refused("none", "no context \"none\"; there are: one, two, run");
}

Test(kube_config, json_is_yaml)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL;

	file("config", "{\"current-context\":\"x\",\"contexts\":[{\"name\":\"x\",\"context\":{\"cluster\":\"c\"}}],"
		       "\"clusters\":[{\"name\":\"c\",\"cluster\":{\"server\":\"http://127.0.0.1:8001\"}}]}");
	c = load(NULL);
	cr_assert_str_eq(c->server, "http://127.0.0.1:8001");
	cr_assert_null(c->token);
}

static void one(const char *cluster, const char *user, const char *words)
{
	char text[1024];

	snprintf(text, sizeof(text),
		"current-context: x\ncontexts:\n- {name: x, context: {cluster: c, user: u}}\n"
		"clusters:\n- name: c\n  cluster: %s\nusers:\n- name: u\n  user: %s\n",
		cluster, user);
	file("config", text);
	if (words)
		refused(NULL, words);
	else
		kube_config_free(load(NULL));
}

Test(kube_config, what_is_refused)
{
	one("{server: 'https://a'}", "{token: t}", NULL);
	one("{server: 'https://a', insecure-skip-tls-verify: false}", "{token: t}", NULL);
	one("{server: 'https://a', insecure-skip-tls-verify: true}", "{token: t}", "always verified");
	one("{server: 'https://a', proxy-url: 'http://b'}", "{token: t}", "proxy-url");
	one("{server: 'http://a'}", "{token: t}", "by https alone");
	one("{server: 'ftp://a'}", "{}", "expected https://");
	one("{server: 'https://a b'}", "{}", "not a plain URL");
	one("{}", "{}", "no \"server\"");
	one("{server: 'https://a', certificate-authority-data: '***'}", "{}", "no base64");
	one("{server: 'https://a'}", "{client-certificate-data: Y2VydA==}", "come together");
	one("{server: 'https://a'}", "{username: u, password: p}", "username");
	one("{server: 'https://a'}", "{token: t, as: root}", "impersonated");
	one("{server: 'https://a'}", "{auth-provider: {name: oidc}}", "auth-provider");
	one("", "{token: t}", "no \"server\"");
	/* A user of whom nothing is said is anonymous. */
	one("{server: 'https://a'}", "", NULL);
	/* A token beside a program is enough. */
	one("{server: 'https://a'}", "{token: t, exec: {command: x}}", NULL);
	file("config", "");
	refused(NULL, "empty");
	file("config", "- a\n");
	refused(NULL, "expected a kubeconfig");
	file("config", "a: b\n");
	refused(NULL, "no current-context");
	file("config", "a: [\n");
	refused(NULL, "config:");
}

/* Whom the certificate is to name where the server is reached by another address. */
Test(kube_config, the_servers_name)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL;
	_cleanup_(kube_config_freep) struct kube_config *none = NULL;

	one("{server: 'https://10.0.0.1:6443', tls-server-name: kubernetes.example}", "{token: t}", NULL);
	c = load(NULL);
	cr_assert_str_eq(c->tls.server_name, "kubernetes.example");
	cr_assert_str_eq(c->server, "https://10.0.0.1:6443");
	one("{server: 'https://10.0.0.1:6443', tls-server-name: ''}", "{token: t}", NULL);
	none = load(NULL);
	cr_assert_null(none->tls.server_name, "empty is none, as for kubectl");
}

/* Read anew for each request, so the file goes before a token beside it; relative to the kubeconfig. */
Test(kube_config, a_tokens_file)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL, *absolute = NULL;
	_cleanup_free_ char *user = NULL, *token = NULL;

	file("token", "first\n");
	one("{server: 'https://a'}", "{tokenFile: token, token: $ecret}", NULL);
	c = load(NULL);
	cr_assert_str_eq(c->token_path, path_of("token"));
	cr_assert_null(c->token);
	cr_assert_eq(kube_token_read(c->token_path, &token, NULL), 0);
	cr_assert_str_eq(token, "first");
	free(token);
	file("token", "second");
	cr_assert_eq(kube_token_read(c->token_path, &token, NULL), 0);
	cr_assert_str_eq(token, "second");

	cr_assert_gt(asprintf(&user, "{tokenFile: '%s'}", path_of("token")), 0);
	one("{server: 'https://a'}", user, NULL);
	absolute = load(NULL);
	cr_assert_str_eq(absolute->token_path, path_of("token"));
	/* It is a token all the same: by https alone, and enough beside a program. */
	one("{server: 'http://a'}", "{tokenFile: token}", "by https alone");
	one("{server: 'https://a'}", "{tokenFile: token, exec: {command: x}}", NULL);
}

Test(kube_config, of_the_environment)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL;
	_cleanup_err_ struct err *err = NULL;
	char list[512];

	file("first", CONTEXTS);
	file("second", "current-context: two\n" CLUSTERS USERS);
	snprintf(list, sizeof(list), "%s:%s::%s", path_of("first"), path_of("missing"),
		path_of("second"));
	setenv("KUBECONFIG", list, 1);
	cr_assert_eq(kube_config_find(NULL, NULL, &c, &err), 0, "%s", err_text(err));
	cr_assert_str_eq(c->server, "https://10.0.0.1:6443");
}

Test(kube_config, of_the_home)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL;
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(kube_config_find(NULL, NULL, &c, &err), -ENOENT);
	cr_assert_eq(mkdir(path_of(".kube"), 0700), 0);
	file(".kube/config", CLUSTERS CONTEXTS USERS);
	cr_assert_eq(kube_config_find(NULL, "two", &c, NULL), 0);
	cr_assert_str_eq(c->server, "https://d");
}

Test(kube_config, in_a_pod)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL;
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(kube_config_in_folder(folder, &c, &err), -ENOENT);
	cr_assert(strstr(err_text(err), "KUBERNETES_SERVICE_HOST"), "%s", err_text(err));
	setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
	setenv("KUBERNETES_SERVICE_PORT", "443", 1);
	cr_assert_eq(kube_config_in_folder(folder, &c, &err), -ENOENT);
	file("token", "t");
	file("ca.crt", "c");
	file("namespace", "pgjolt\n");
	cr_assert_eq(kube_config_in_folder(folder, &c, NULL), 0);
	cr_assert_str_eq(c->server, "https://[fd00::1]:443");
	cr_assert_str_eq(c->default_namespace, "pgjolt");
	cr_assert_str_eq(c->token_path, path_of("token"));
	cr_assert_str_eq(c->tls.ca, path_of("ca.crt"));
}
