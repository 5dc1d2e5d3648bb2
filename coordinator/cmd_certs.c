/* The Secrets of mutual TLS, for clusters without cert-manager. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/units.h"
#include "kube/base64.h"
#include "kubernetes/agents.h"
#include "kubernetes/certificates.h"
#include "session.h"
#include "verbs.h"

#define AGENT_SECRET "pgjolt-agent-tls"
#define CLIENT_SECRET "pgjolt-client-tls"
#define METRICS_SECRET "pgjolt-metrics-tls"
#define SECRETS 3
#define TYPE_DEFAULT "kubernetes.io/tls"
/* Kubelets look at Secrets about once a minute, and hold them in a cache besides. */
#define WAIT_DEFAULT_NS (150 * NS_PER_S)

struct options {
	struct session_options session;
	bool apply, renew;
	uint64_t days, wait_ns;
};

struct secret {
	const char *name;
	char *type, *ca, *cert, *key;
	bool there;
	bool is_new;	/* a renewal may make it: earlier versions had it not */
};

static void secret_done(struct secret *s)
{
	if (s->key)
		explicit_bzero(s->key, strlen(s->key));
	free(s->key);
	free(s->type);
	free(s->ca);
	free(s->cert);
}

static void replace(char **text, const char *by)
{
	free(*text);
	*text = strdup(by);
}

static char *secret_path(const char *namespace, const char *name)
{
	return kube_path("/api/v1/namespaces/%s/secrets/%s", namespace, name);
}

static int read_data(const cJSON *object, const char *key, char **ret, struct err **err)
{
	const cJSON *data = kube_field(object, "data");
	const char *text = cJSON_IsObject(data) ? cJSON_GetStringValue(json_get(data, key)) : NULL;
	size_t length = 0;
	int r;

	if (!text)
		return err_set(err, -EINVAL, "Secret %s has no \"%s\"", kube_name(object), key);
	r = base64_decode(text, ret, &length, err);
	return r < 0 ? err_wrap(err, r, "Secret %s: %s", kube_name(object), key) : 0;
}

static int secret_read(struct session *s, struct secret *secret, struct err **err)
{
	_cleanup_free_ char *path = secret_path(s->agents_namespace, secret->name);
	_cleanup_json_ cJSON *object = NULL;
	_cleanup_err_ struct err *why = NULL;
	const char *type;
	int r = kube_get(s->kube, path, &object, &why);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_set(err, r, "Secret %s/%s: %s", s->agents_namespace, secret->name, err_text(why));
	if (kube_annotation(object, "cert-manager.io/certificate-name"))
		return err_set(err, -EPERM, "Secret %s/%s is made and renewed by cert-manager",
			s->agents_namespace, secret->name);
	secret->there = true;
	type = kube_text(object, "type");
	replace(&secret->type, type ? type : TYPE_DEFAULT);
	r = read_data(object, "ca.crt", &secret->ca, err);
	if (r >= 0)
		r = read_data(object, "tls.crt", &secret->cert, err);
	return r < 0 ? r : read_data(object, "tls.key", &secret->key, err);
}

static cJSON *secret_to_json(const struct secret *secret, const char *namespace)
{
	cJSON *o = json_object(), *metadata = json_object(), *labels = json_object();
	cJSON *data = json_object();

	json_add_string(o, "apiVersion", "v1");
	json_add_string(o, "kind", "Secret");
	json_add_item(o, "metadata", metadata);
	json_add_string(metadata, "name", secret->name);
	json_add_string(metadata, "namespace", namespace);
	json_add_item(metadata, "labels", labels);
	json_add_string(labels, "app.kubernetes.io/name", "pgjolt");
	json_add_string(o, "type", secret->type);
	json_add_item(o, "stringData", data);
	json_add_string(data, "ca.crt", secret->ca);
	json_add_string(data, "tls.crt", secret->cert);
	json_add_string(data, "tls.key", secret->key);
	return o;
}

static int secret_write(struct session *s, struct secret *secret, struct err **err)
{
	_cleanup_json_ cJSON *object = secret_to_json(secret, s->agents_namespace);
	_cleanup_free_ char *one = secret_path(s->agents_namespace, secret->name);
	_cleanup_free_ char *all = kube_path("/api/v1/namespaces/%s/secrets", s->agents_namespace);
	int r = kube_send(s->kube, secret->there ? "PATCH" : "POST", secret->there ? one : all, object,
		NULL, err);

	if (r < 0)
		return err_wrap(err, r, "Secret %s/%s", s->agents_namespace, secret->name);
	secret->there = true;
	return 0;
}

static void print_block(const char *key, const char *text)
{
	printf("  %s: |\n", key);
	for (size_t n; *text; text += n + (text[n] == '\n')) {
		n = strcspn(text, "\n");
		printf("    %.*s\n", (int)n, text);
	}
}

static void secret_print(const struct secret *secret, const char *namespace)
{
	printf("---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\n"
	       "  labels: {app.kubernetes.io/name: pgjolt}\ntype: %s\nstringData:\n",
		secret->name, namespace, secret->type);
	print_block("ca.crt", secret->ca);
	print_block("tls.crt", secret->cert);
	print_block("tls.key", secret->key);
}

/* Those that have something in them yet. */
static int write_all(struct session *s, struct secret secrets[SECRETS], struct err **err)
{
	int r = 0;

	for (size_t i = 0; i < SECRETS && r >= 0; i++)
		if (secrets[i].cert)
			r = secret_write(s, &secrets[i], err);
	return r;
}

static int wait_for_pods(struct session *s, uint64_t wait_ns, const char *told, struct err **err)
{
	char text[UNITS_TEXT_MAX];

	duration_format(wait_ns, text);
	fprintf(stderr, "pgjolt: %s; all pods have that in %s\n", told, text);
	for (uint64_t end = now_ns() + wait_ns, now; (now = now_ns()) < end;) {
		int r = sd_event_run(s->event, (end - now) / NS_PER_US + 1);

		if (r < 0)
			return err_errno(err, r, "event loop");
	}
	return 0;
}

static void put_certificates(struct secret secrets[SECRETS], const struct certificates *new)
{
	const char *const certs[] = {new->agent_cert, new->client_cert, new->metrics_cert};
	const char *const keys[] = {new->agent_key, new->client_key, new->metrics_key};

	for (size_t i = 0; i < SECRETS; i++) {
		replace(&secrets[i].cert, certs[i]);
		replace(&secrets[i].key, keys[i]);
	}
}

/* First everybody trusts both CAs, then the certificates change, then nobody trusts the old CA any more: no
 * one who takes the files as they come is refused in between, and what was issued before ends. */
static int renew(const struct options *o, struct session *s, struct secret secrets[SECRETS],
	const struct certificates *new, struct err **err)
{
	int r = write_all(s, secrets, err);

	if (r >= 0)
		r = wait_for_pods(s, o->wait_ns, "step 1 of 3: the new CA is trusted beside the old one", err);
	put_certificates(secrets, new);
	if (r >= 0)
		r = write_all(s, secrets, err);
	if (r >= 0)
		r = wait_for_pods(s, o->wait_ns, "step 2 of 3: the new certificates are there", err);
	for (size_t i = 0; i < SECRETS; i++)
		replace(&secrets[i].ca, new->ca);
	if (r >= 0)
		r = write_all(s, secrets, err);
	if (r >= 0)
		fprintf(stderr, "pgjolt: step 3 of 3: the old CA is trusted no more\n");
	return r;
}

static int apply(const struct options *o, struct session *s, struct secret secrets[SECRETS],
	const struct certificates *new, struct err **err)
{
	time_t until = 0;
	char date[64];
	struct tm tm;
	int r;

	if (o->renew) {
		r = renew(o, s, secrets, new, err);
	} else {
		put_certificates(secrets, new);
		r = write_all(s, secrets, err);
	}
	if (r >= 0)
		r = certificate_expiry(new->agent_cert, &until, err);
	if (r < 0)
		return r;
	strftime(date, sizeof(date), "%Y-%m-%d", gmtime_r(&until, &tm));
	printf("Secrets %s, %s and %s are in namespace %s, valid until %s. Before that: pgjolt certs --renew "
	       "--apply\n",
		AGENT_SECRET, CLIENT_SECRET, METRICS_SECRET, s->agents_namespace, date);
	return 0;
}

static int check_there(const struct options *o, const struct session *s,
	const struct secret secrets[SECRETS], struct err **err)
{
	for (size_t i = 0; i < SECRETS; i++) {
		if (secrets[i].there && !o->renew)
			return err_set(err, -EEXIST,
				"Secret %s/%s is there already: renew it with --renew, or delete it",
				s->agents_namespace, secrets[i].name);
		if (!secrets[i].there && o->renew && !secrets[i].is_new)
			return err_set(err, -ESRCH, "Secret %s/%s is not there: nothing to renew",
				s->agents_namespace, secrets[i].name);
	}
	return 0;
}

static int make(const struct options *o, struct secret secrets[SECRETS], struct err **err)
{
	_cleanup_(session_closep) struct session *s = NULL;
	_cleanup_free_ char *namespace = session_agents_namespace(&o->session, NULL);
	struct certificates new = {0};
	int r = o->apply || o->renew ? session_open_api(&o->session, &s, err) : 0;

	for (size_t i = 0; s && r >= 0 && i < SECRETS; i++)
		r = secret_read(s, &secrets[i], err);
	if (r >= 0 && s)
		r = check_there(o, s, secrets, err);
	if (r >= 0)
		r = certificates_make((unsigned)o->days, &new, err);
	for (size_t i = 0; r >= 0 && i < SECRETS; i++) {
		_cleanup_free_ char *bundle = certificates_bundle(new.ca, secrets[i].ca);

		replace(&secrets[i].ca, bundle);
		if (!secrets[i].type)
			replace(&secrets[i].type, TYPE_DEFAULT);
	}
	if (r >= 0 && o->apply) {
		r = apply(o, s, secrets, &new, err);
	} else if (r >= 0) {
		put_certificates(secrets, &new);
		for (size_t i = 0; i < SECRETS; i++)
			secret_print(&secrets[i], s ? s->agents_namespace : namespace);
	}
	certificates_done(&new);
	return r;
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {.days = 365, .wait_ns = WAIT_DEFAULT_NS};
	struct secret secrets[SECRETS] = {
		{.name = AGENT_SECRET}, {.name = CLIENT_SECRET}, {.name = METRICS_SECRET, .is_new = true}};
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r = cli_parse(verb, argc, argv, NULL, &o, &arguments, &err), code = EXIT_PASSED;

	if (r >= 0 && arguments)
		r = err_set(&err, -EINVAL, "unexpected \"%s\"", arguments[0]);
	if (r >= 0 && (o.days < 1 || o.days > 3650))
		r = err_set(&err, -EINVAL, "--days: 1 to 3650");
	if (r < 0)
		code = r == -ECANCELED ? EXIT_PASSED : cli_usage(verb, err);
	else if (make(&o, secrets, &err) < 0)
		code = cli_fail(err);
	for (size_t i = 0; i < SECRETS; i++)
		secret_done(&secrets[i]);
	session_options_done(&o.session);
	return code;
}

static const struct cli_option options[] = {
	{"apply", CLI_FLAG, offsetof(struct options, apply), NULL,
		"write the Secrets into the cluster; else they are printed", NULL},
	{"renew", CLI_FLAG, offsetof(struct options, renew), NULL,
		"replace those that are there; no pod is refused meanwhile, and what was issued before ends", NULL},
	{"days", CLI_COUNT, offsetof(struct options, days), "N", "how long they are valid (365)", NULL},
	{"wait", CLI_DURATION, offsetof(struct options, wait_ns), "DURATION",
		"with --renew --apply, twice: for all pods to have the new CA, then the new certificates (150s)", NULL},
	{"kubeconfig", CLI_TEXT, SESSION_OPTION(struct options, kubeconfig), "FILE",
		"the cluster to write to (default: as kubectl looks)", "@files"},
	{"context", CLI_TEXT, SESSION_OPTION(struct options, context), "NAME", "of the kubeconfig",
		NULL},
	{"agents-namespace", CLI_TEXT, SESSION_OPTION(struct options, agents_namespace), "NAMESPACE",
		"where the Secrets belong (default: in a pod its own, else pgjolt)", NULL},
};

const struct cli_verb verb_certs = {
	.name = "certs",
	.summary = "make the Secrets of mutual TLS between coordinator and agents in Kubernetes",
	.description =
		"`pgjolt certs | kubectl apply -f -`, or `pgjolt certs --apply`. A CA is made for these\n"
		"certificates alone (the agents', the coordinators', and one that may read metrics and nothing\n"
		"else); its key is not kept. Where cert-manager runs, let that do it.",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
