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
#define USER_MAX      256

/* The whole question, until it is answered. */
struct question {
	struct api_server *server;
	const struct route *route;
	struct arm_request *request;	/* with RIGHT_ARM; NULL: its form is wrong, which arming tells */
	char verb[8], namespace[NAMESPACE_MAX];
	char user[USER_MAX], words[WORDS_MAX];	/* of the first answer; "" */
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

static void question_free(struct question *q)
{
	arm_request_free(q->request);
	free(q);
}

DEFINE_CLEANUP(struct question, question_free)

/* The last answer: is there a place in the share of the cluster? */
static void on_share(struct share_claim *claim, int r, const char *why, void *data)
{
	_cleanup_(question_freep) struct question *q = data;
	char words[2 * WORDS_MAX];
	struct permit p = {.user = q->user, .words = words, .claim = claim};

	if (r == -EBUSY || r == -EPERM) {
		p.status = (unsigned)err_http_status(r);
		snprintf(words, sizeof(words), "%s on %s: %s", q->request->fault, q->request->instance, why);
	} else if (r < 0) {
		p.status = 503;
		snprintf(words, sizeof(words), "%s on %s: whether the share of its cluster has a place left is not "
			"known: %s", q->request->fault, q->request->instance, why);
	} else {
		snprintf(words, sizeof(words), "%s%s%s", q->words, *q->words && claim ? "; " : "",
			claim ? why : "");
	}
	if (!*words)
		p.words = NULL;
	q->done(&p, q->data);
}

static void ask_share(struct question *q)
{
	struct agent *a = q->server->agent;

	if (q->request && a->kubernetes)
		kubernetes_take_share(a->kubernetes, q->request, on_share, q);
	else
		on_share(NULL, 0, "", q);
}

static void on_decision(const struct decision *d, void *data)
{
	struct question *q = data;
	struct permit p = {.user = d->user, .words = q->words};
	const char *who = *d->user ? d->user : "the caller";

	snprintf(q->user, sizeof(q->user), "%s", d->user);
	if (d->allowed) {
		snprintf(q->words, sizeof(q->words), "may %s faults.pgjolt.io in namespace %s (%s%s)", q->verb,
			q->namespace, d->why, d->cached ? ", cached" : "");
	} else if (d->unknown && q->route->right == RIGHT_STOP) {
		snprintf(q->words, sizeof(q->words), "by certificate alone: %s", d->why);
	} else if (d->unknown) {
		p.status = 503;
		snprintf(q->words, sizeof(q->words),
			"whether %s may %s faults.pgjolt.io in namespace %s is not known: %s", who, q->verb,
			q->namespace, d->why);
	} else if (d->stranger) {
		p.status = 401;
		snprintf(q->words, sizeof(q->words), "the token is refused: %s", d->why);
	} else {
		p.status = 403;
		snprintf(q->words, sizeof(q->words), "%s may not %s faults.pgjolt.io in namespace %s: %s", who,
			q->verb, q->namespace, d->why);
	}
	if (p.status == 0) {
		ask_share(q);
		return;
	}
	q->done(&p, q->data);
	question_free(q);
}

static void refuse(permit_done done, void *data, unsigned status, const char *words)
{
	const struct permit p = {.status = status, .user = "", .words = words};

	done(&p, data);
}

/* Asks about the token. Returns a status with words instead where that cannot be. */
static unsigned ask_token(struct question *q, struct MHD_Connection *connection, const char *id,
	const cJSON *body, const char **ret_words)
{
	struct api_server *server = q->server;
	enum route_right right = q->route->right;
	struct authorize_ask ask = {.lenient = right != RIGHT_ARM, .verb = q->verb, .namespace = q->namespace};

	*ret_words = "the agent is stopping";
	if (!server->authorizer)
		return 503;
	ask.token = bearer(connection);
	*ret_words = "a service account's token is needed (Authorization: Bearer)";
	if (!ask.token)
		return 401;
	snprintf(q->verb, sizeof(q->verb), "get");
	snprintf(q->namespace, sizeof(q->namespace), "%s", kubernetes_namespace(server->agent->kubernetes));
	*ret_words = "the instance is in no namespace whose rights could be asked";
	if ((right == RIGHT_ARM || right == RIGHT_KEEP) && !find_target(server, q, id, body))
		return 403;
	authorizer_ask(server->authorizer, &ask, on_decision, q);
	return 0;
}

void permission_ask(struct api_server *server, struct MHD_Connection *connection, bool tls,
	const struct route *route, const char *id, const cJSON *body, permit_done done, void *data)
{
	struct question *q = calloc(1, sizeof(*q));
	const char *words;
	unsigned status;

	if (!q) {
		refuse(done, data, 500, "out of memory");
		return;
	}
	*q = (struct question){.server = server, .route = route, .done = done, .data = data};
	if (route->right == RIGHT_ARM)
		(void)arm_request_from_json(body, &q->request, NULL);
	if (!tls || !server->agent->config.kubernetes.authorize || route->right == RIGHT_NONE) {
		ask_share(q);
		return;
	}
	status = ask_token(q, connection, id, body, &words);
	if (!status)
		return;
	question_free(q);
	refuse(done, data, status, words);
}

void permission_settle(struct api_server *server, struct share_claim *claim)
{
	if (claim && server->agent->kubernetes)
		kubernetes_settle_share(server->agent->kubernetes, claim);
}
