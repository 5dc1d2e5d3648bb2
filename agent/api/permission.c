#include "api/permission.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "api/authorize.h"
#include "api/route.h"
#include "api/server_internal.h"
#include "core/json.h"
#include "kubeapi/kubernetes.h"

#define NAMESPACE_MAX 64	/* with its NUL (RFC 1123) */
#define WORDS_MAX     640

/* The whole question, until it is answered. */
struct question {
	const struct route *route;
	char verb[8], namespace[NAMESPACE_MAX];
	permit_done done;
	void *data;
};

/* "Bearer TOKEN" (RFC 6750, 2.1). NULL: none, or no token by its form. */
static const char *bearer(struct MHD_Connection *connection)
{
	static const char scheme[] = "Bearer ";
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789-._~+/=";
	const char *value =
		MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
	size_t n;

	if (!value || strncasecmp(value, scheme, strlen(scheme)) != 0)
		return NULL;
	value += strlen(scheme);
	value += strspn(value, " ");
	n = strspn(value, allowed);
	return n > 0 && n <= AUTHORIZE_TOKEN_MAX && value[n] == '\0' ? value : NULL;
}

/* NAMESPACE/POD. What the name stands for is looked at when the fault is armed (kubernetes_check_target). */
static bool namespace_of(const char *instance, char ret[static NAMESPACE_MAX])
{
	size_t n = instance ? strspn(instance, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;

	if (n == 0 || n >= NAMESPACE_MAX || instance[n] != '/')
		return false;
	memcpy(ret, instance, n);
	ret[n] = '\0';
	return true;
}

/* The target's namespace where the right is asked there. False: there is no such target. */
static bool find_target(struct api_server *server, struct question *q, const char *id,
	const cJSON *body)
{
	const char *instance = NULL;
	struct experiment *e;

	if (q->route->right == RIGHT_ARM)
		instance = cJSON_GetStringValue(json_get(body, "instance"));
	else if (experiments_find(server->agent->experiments, id, &e, NULL) == 0)
		instance = experiment_instance(e);
	else	/* That it is not there is told to who may read. */
		return true;
	snprintf(q->verb, sizeof(q->verb), "create");
	return namespace_of(instance, q->namespace);
}

static void on_decision(const struct decision *d, void *data)
{
	_cleanup_free_ struct question *q = data;
	char words[WORDS_MAX];
	struct permit p = {.user = d->user, .words = words};
	const char *who = *d->user ? d->user : "the caller";

	if (d->allowed) {
		snprintf(words, sizeof(words), "may %s faults.pgjolt.io in namespace %s (%s%s)", q->verb,
			q->namespace, d->why, d->cached ? ", cached" : "");
	} else if (d->unknown && q->route->right == RIGHT_STOP) {
		snprintf(words, sizeof(words), "by certificate alone: %s", d->why);
	} else if (d->unknown) {
		p.status = 503;
		snprintf(words, sizeof(words),
			"whether %s may %s faults.pgjolt.io in namespace %s is not known: %s", who, q->verb,
			q->namespace, d->why);
	} else if (d->stranger) {
		p.status = 401;
		snprintf(words, sizeof(words), "the token is refused: %s", d->why);
	} else {
		p.status = 403;
		snprintf(words, sizeof(words), "%s may not %s faults.pgjolt.io in namespace %s: %s", who,
			q->verb, q->namespace, d->why);
	}
	q->done(&p, q->data);
}

static void refuse(permit_done done, void *data, unsigned status, const char *words)
{
	const struct permit p = {.status = status, .user = "", .words = words};

	done(&p, data);
}

void permission_ask(struct api_server *server, struct MHD_Connection *connection,
	const struct route *route, const char *id, const cJSON *body, permit_done done, void *data)
{
	const struct permit certificate = {.user = ""};
	struct question q = {.route = route, .verb = "get", .done = done, .data = data}, *copy;
	struct authorize_ask ask = {.lenient = route->right != RIGHT_ARM};

	if (!server->agent->config.kubernetes.authorize || route->right == RIGHT_NONE) {
		done(&certificate, data);
		return;
	}
	if (!server->authorizer) {
		refuse(done, data, 503, "the agent is stopping");
		return;
	}
	ask.token = bearer(connection);
	if (!ask.token) {
		refuse(done, data, 401, "a service account's token is needed (Authorization: Bearer)");
		return;
	}
	snprintf(q.namespace, sizeof(q.namespace), "%s",
		kubernetes_namespace(server->agent->kubernetes));
	if ((route->right == RIGHT_ARM || route->right == RIGHT_KEEP) &&
	    !find_target(server, &q, id, body)) {
		refuse(done, data, 403, "the instance is in no namespace whose rights could be asked");
		return;
	}
	copy = malloc(sizeof(*copy));
	if (!copy) {
		refuse(done, data, 500, "out of memory");
		return;
	}
	*copy = q;
	ask.verb = copy->verb;
	ask.namespace = copy->namespace;
	authorizer_ask(server->authorizer, &ask, on_decision, copy);
}
