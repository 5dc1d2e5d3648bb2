/* One request from its first line to its answer. */
#include <stdio.h>
#include <string.h>
#include "api/body.h"
#include "api/caller.h"
#include "api/permission.h"
#include "api/route.h"
#include "api/server_internal.h"
#include "core/clock.h"
#include "core/json.h"

#define REQUEST_WORDS_MAX 1024

struct request {
	struct api_server *server;
	struct listener *listener;
	struct MHD_Connection *connection;
	struct client *client;
	const struct route *route;	/* NULL until it is found, or where there is none */
	struct caller caller;
	char id[ROUTE_ID_MAX + 1];
	char allow[ROUTE_ALLOW_MAX];	/* of a 405 */
	bool begun;
	bool hang_up;			/* after the answer */
	unsigned refused;		/* status decided before the body; 0: none */
	struct err *problem;		/* its words */
	char *body;
	size_t length, room;
	bool too_long;			/* the rest of the body is read and dropped */
	cJSON *json;			/* the body, parsed */
	bool asked;			/* whether he may */
	bool answered;			/* that question is */
	bool suspended;			/* until then */
	char words[REQUEST_WORDS_MAX];	/* of the decision; "" where nothing was asked */
	struct share_claim *claim;	/* until it is armed or refused */
};

static struct client *client_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void refuse(struct request *r, unsigned status, const char *why)
{
	r->refused = status;
	err_set(&r->problem, -EINVAL, "%s", why);
}

void *request_begin(void *cls, const char *target, struct MHD_Connection *connection)
{
	struct listener *listener = cls;
	struct request *r = calloc(1, sizeof(*r));
	const char *problem;

	if (!r)
		return NULL;
	r->server = listener->server;
	r->listener = listener;
	r->connection = connection;
	r->client = client_of(connection);
	if (r->client) {
		r->client->busy = true;
		r->client->since_ns = now_ns();
	}
	problem = route_target_problem(target);
	if (problem)
		refuse(r, 400, problem);
	return r;
}

static int identify(struct request *r, bool tls)
{
	const union MHD_ConnectionInfo *info;
	const struct agent_config *c = &r->server->agent->config;
	const struct caller_names names = {c->tls_allowed_names, c->tls_metrics_names};

	snprintf(r->caller.name, sizeof(r->caller.name), "unknown");
	r->caller.status = 403;
	info = MHD_get_connection_info(r->connection, tls ? MHD_CONNECTION_INFO_GNUTLS_SESSION :
							    MHD_CONNECTION_INFO_CONNECTION_FD);
	if (!info)
		return err_set(&r->problem, -EPERM, "who calls cannot be known");
	if (tls)
		return caller_from_session(info->tls_session, &names, &r->caller, &r->problem);
	return caller_from_socket(info->connect_fd, &r->caller, &r->problem);
}

struct framing {
	unsigned lengths, encodings;
};

static enum MHD_Result framing_count(void *cls, enum MHD_ValueKind kind, const char *key,
	const char *value)
{
	struct framing *f = cls;

	(void)kind;
	(void)value;
	f->lengths += strcasecmp(key, "Content-Length") == 0;
	f->encodings += strcasecmp(key, "Transfer-Encoding") == 0;
	return MHD_YES;
}

/* Two statements of where the body ends may differ (RFC 9112, 6.3), and libmicrohttpd believes the
 * first. */
static bool is_ambiguous(struct request *r)
{
	struct framing f = {0};

	MHD_get_connection_values(r->connection, MHD_HEADER_KIND, framing_count, &f);
	return f.lengths + f.encodings > 1;
}

/* Nothing else is told to who may read the metrics alone, not even which routes there are. */
static bool confine(struct request *r, const char *method, const char *path)
{
	bool may = !r->caller.metrics_only || (r->route && r->route->right == RIGHT_NONE);

	if (r->client && may)
		r->client->known = true;
	if (may)
		return false;
	r->route = NULL;
	r->refused = r->caller.status = 403;
	err_set(&r->problem, -EPERM, "%s may read /metrics and /healthz alone", r->caller.name);
	audit_refusal(r->server, &r->caller, method, path, err_text(r->problem));
	return true;
}

/* What is known before the body. */
static void admit(struct request *r, const char *method, const char *path, bool tls)
{
	_cleanup_err_ struct err *earlier = steal_ptr(r->problem);
	enum route_result found;

	if (identify(r, tls) < 0) {
		r->refused = r->caller.status;
		audit_refusal(r->server, &r->caller, method, path, err_text(r->problem));
		return;
	}
	if (r->client && !r->caller.metrics_only)
		r->client->known = true;
	r->problem = steal_ptr(earlier);
	if (!r->refused && is_ambiguous(r)) {
		refuse(r, 400, "more than one Content-Length or Transfer-Encoding");
		r->hang_up = true;
	}
	if (r->refused)
		return;
	found = route_find(method, path, &r->route, r->id, r->allow);
	if (confine(r, method, path))
		return;
	if (found == ROUTE_WRONG_METHOD)
		refuse(r, 405, "this route has other methods, see Allow");
	else if (found == ROUTE_UNKNOWN)
		refuse(r, 404, "no such route");
}

static void take_body(struct request *r, const char *data, size_t length)
{
	/* Nothing of a stranger's is kept. */
	if (r->refused || r->too_long)
		return;
	if (length > SERVER_BODY_MAX - r->length) {
		r->too_long = true;
		r->length = 0;
		return;
	}
	if (r->length + length > r->room) {
		size_t room = r->room ? r->room : 1024;
		char *more;

		while (room < r->length + length)
			room *= 2;
		more = realloc(r->body, room);
		if (!more) {
			refuse(r, 500, "out of memory");
			return;
		}
		r->body = more;
		r->room = room;
	}
	memcpy(r->body + r->length, data, length);
	r->length += length;
}

/* The error names of statuses that no errno class stands for. */
static const char *status_code(unsigned status)
{
	switch (status) {
	case 401:
		return "EACCES";
	case 403:
		return "EPERM";
	case 404:
		return "ENOENT";
	case 405:
		return "EOPNOTSUPP";
	case 413:
		return "EFBIG";
	case 500:
		return "EIO";
	case 503:
		return "EBUSY";
	default:
		return "EINVAL";
	}
}

static cJSON *status_to_json(unsigned status, const char *message)
{
	cJSON *o = json_object(), *e = json_object();

	json_add_string(e, "code", status_code(status));
	json_add_int(e, "status", (int)status);
	json_add_string(e, "message", message);
	json_add_item(o, "error", e);
	return o;
}

static unsigned check_body(const struct request *r, cJSON **ret, struct err **err)
{
	if (r->too_long) {
		err_set(err, -EFBIG, "the body is longer than %lu bytes", SERVER_BODY_MAX);
		return 413;
	}
	return body_check(r->route->body, r->body, r->length,
		MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Content-Type"), ret, err);
}

struct query_check {
	const char *const *allowed;
	struct call *call;
	struct err **err;
	bool bad;
};

static enum MHD_Result query_take(void *cls, enum MHD_ValueKind kind, const char *key,
	const char *value)
{
	struct query_check *q = cls;
	const char **slot = strcmp(key, "after") == 0 ? &q->call->after : &q->call->follow;

	(void)kind;
	for (unsigned i = 0; q->allowed && q->allowed[i]; i++) {
		if (strcmp(q->allowed[i], key) != 0)
			continue;
		if (*slot)
			break;
		*slot = value ? value : "";
		return MHD_YES;
	}
	q->bad = true;
	err_set(q->err, -EINVAL, "query: \"%.40s\" is unknown here or there twice", key);
	return MHD_NO;
}

/* Runs the route's handler. Returns the status; on an error 400 and above, *err has the words. */
static unsigned run_handler(struct request *r, struct answer *answer, struct err **err)
{
	struct call call = {
		.server = r->server,
		.id = r->id[0] ? r->id : NULL,
		.pid = r->caller.pid,
	};
	struct query_check query = {r->route->query, &call, err, false};
	int code;

	MHD_get_connection_values(r->connection, MHD_GET_ARGUMENT_KIND, query_take, &query);
	if (query.bad)
		return 400;
	call.body = r->json;
	code = r->route->handle(&call, answer, err);
	if (code < 0) {
		answer_done(answer);
		if (!*err)
			err_errno(err, code, "%s", r->route->path);
		return (unsigned)err_http_status(code);
	}
	return answer->status ? answer->status : 200;
}

/* Takes what answer holds. */
static struct MHD_Response *respond(struct request *r, struct answer *answer)
{
	struct MHD_Response *response;
	char *text = steal_ptr(answer->text);
	const char *type = answer->text_type;

	if (answer->stream) {
		response = event_stream_respond(steal_ptr(answer->stream), r->connection,
			r->client);
		type = "application/x-ndjson";
	} else {
		if (answer->json) {
			text = json_print(answer->json);
			type = "application/json";
		}
		response = MHD_create_response_from_buffer(strlen(text), text,
			MHD_RESPMEM_MUST_FREE);
		if (!response)
			free(text);
	}
	if (!response)
		return NULL;
	MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "Cache-Control", "no-store");
	if (r->refused == 405)
		MHD_add_response_header(response, "Allow", r->allow);
	/* A connection under TLS files that were replaced has had its last request. */
	if (r->hang_up || r->listener->retired)
		MHD_add_response_header(response, "Connection", "close");
	return response;
}

static cJSON *error_body(const struct request *r, unsigned status, const struct err *err)
{
	if (r->refused == 404)
		return route_unknown_to_json();
	if (!err || (unsigned)err_http_status(err->code) != status)
		return status_to_json(status, err_text(err));
	return error_to_json(err->code, err->text);
}

static void audit(const struct request *r, unsigned status, const cJSON *answer,
	const struct err *err)
{
	const struct audit_call call = {
		.verb = r->route->verb,
		.experiment = r->id[0] ? r->id : NULL,
		.body = r->json,
		.answer = answer,
		.status = status,
		.error = err ? err->text : NULL,
		.decision = r->words[0] && !r->refused ? r->words : NULL,
	};

	audit_change(r->server, &r->caller, &call);
}

static enum MHD_Result answer_request(struct request *r)
{
	_cleanup_err_ struct err *err = NULL;
	struct answer answer = {0};
	struct MHD_Response *response;
	enum MHD_Result result;
	unsigned status;

	if (r->refused) {
		status = r->refused;
		err = steal_ptr(r->problem);
	} else {
		status = run_handler(r, &answer, &err);
	}
	permission_settle(r->server, steal_ptr(r->claim));
	if (err)
		answer.json = error_body(r, status, err);
	if (r->route && r->route->verb)
		audit(r, status, answer.json, err);
	metrics_count_request(&r->server->metrics,
		r->route ? (unsigned)(r->route - routes) : routes_count, status);
	response = respond(r, &answer);
	answer_done(&answer);
	if (!response)
		return MHD_NO;
	if (r->client)
		r->client->answering = true;
	result = MHD_queue_response(r->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

/* A user's name from a token, before the certificate's. */
static void name_user(struct request *r, const char *user)
{
	char name[sizeof(r->caller.name)];

	if (!*user)
		return;
	snprintf(name, sizeof(name), "%.100s (%.50s)", user, r->caller.name);
	snprintf(r->caller.name, sizeof(r->caller.name), "%s", name);
}

static void on_permit(const struct permit *p, void *data)
{
	struct request *r = data;

	r->answered = true;
	r->claim = p->claim;
	name_user(r, p->user);
	if (p->words)
		snprintf(r->words, sizeof(r->words), "%s", p->words);
	if (p->status) {
		refuse(r, p->status, p->words);
		r->caller.status = p->status;
		if (!r->route->verb)
			audit_refusal(r->server, &r->caller, r->route->method, r->route->path,
				p->words);
	}
	if (!r->suspended)
		return;
	r->suspended = false;
	if (r->client)
		r->client->suspended = false;
	MHD_resume_connection(r->connection);
	listener_run(r->listener);
}

/* The whole request is there: is its body in order, and may he? */
static void ask(struct request *r)
{
	unsigned status;

	r->asked = true;
	if (!r->refused) {
		status = check_body(r, &r->json, &r->problem);
		if (status)
			r->refused = status;
	}
	if (r->refused) {
		r->answered = true;
		return;
	}
	permission_ask(r->server, r->connection, r->listener->tls, r->route, r->id, r->json, on_permit, r);
	if (r->answered)
		return;
	r->suspended = true;
	if (r->client)
		r->client->suspended = true;
	MHD_suspend_connection(r->connection);
}

/* A client that asks before it sends is told at once that its body is too long. */
static bool is_announced_too_long(struct request *r)
{
	const char *expect = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Expect");
	const char *length =
		MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Content-Length");

	return expect && length && strtoull(length, NULL, 10) > SERVER_BODY_MAX;
}

enum MHD_Result request_handle(void *cls, struct MHD_Connection *connection, const char *path,
	const char *method, const char *version, const char *data, size_t *length, void **state)
{
	struct listener *listener = cls;
	struct request *r = *state;

	(void)version;
	(void)connection;
	if (!r)
		return MHD_NO;
	if (!r->begun) {
		r->begun = true;
		admit(r, method, path, listener->tls);
		if (!is_announced_too_long(r))
			return MHD_YES;
		r->too_long = true;
		if (!r->refused)
			r->refused = check_body(r, &r->json, &r->problem);
		return answer_request(r);
	}
	if (*length > 0) {
		take_body(r, data, *length);
		*length = 0;
		return MHD_YES;
	}
	if (!r->asked)
		ask(r);
	return r->answered ? answer_request(r) : MHD_YES;
}

void request_end(void *cls, struct MHD_Connection *connection, void **state,
	enum MHD_RequestTerminationCode why)
{
	struct request *r = *state;
	struct listener *l = cls;

	(void)why;
	(void)connection;
	if (!r)
		return;
	if (r->client) {
		r->client->busy = false;
		r->client->answering = false;
		r->client->since_ns = now_ns();
	}
	permission_settle(l->server, r->claim);
	err_free(r->problem);
	free(r->body);
	cJSON_Delete(r->json);
	free(r);
	*state = NULL;
	server_leave_if_unused(l->server);
}
