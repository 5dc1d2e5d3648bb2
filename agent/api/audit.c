#include "api/audit.h"

#include <stdio.h>
#include <string.h>
#include "api/caller.h"
#include "api/event_log.h"
#include "api/server_internal.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/wire.h"

#define LINE_MAX_BYTES 1024
#define NAME_MAX_BYTES 192

/* Text that a client chose ends up in the line: it stays one line, and UTF-8 stays as it is. */
static void printable(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

static void tell(struct api_server *server, char *line, const char *experiment,
	const char *instance)
{
	struct agent_event e = {
		.kind = (char *)"audit",
		.experiment = (char *)experiment,
		.instance = (char *)instance,
		.text = line,
	};

	printable(line);
	log_info("audit: %s", line);
	event_log_add(server->agent->events, &e);
}

/* The string of that name in answer, else in body, into buf; NULL: in neither. */
static const char *find_text(const struct audit_call *call, const char *name,
	char buf[static NAME_MAX_BYTES])
{
	const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(call->answer, name));

	if (!s)
		s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(call->body, name));
	if (!s)
		return NULL;
	snprintf(buf, NAME_MAX_BYTES, "%s", s);
	printable(buf);
	return buf;
}

void audit_change(struct api_server *server, const struct caller *caller,
	const struct audit_call *call)
{
	char line[LINE_MAX_BYTES], id[NAME_MAX_BYTES], on[NAME_MAX_BYTES], what[NAME_MAX_BYTES];
	char state_text[NAME_MAX_BYTES], of_run[NAME_MAX_BYTES];
	const char *experiment = call->experiment ? call->experiment :
						    find_text(call, "experiment", id);
	const char *instance = find_text(call, "instance", on);
	const char *fault = find_text(call, "fault", what);
	const char *state = find_text(call, "state", state_text);
	const char *run = experiment ? NULL : find_text(call, "run", of_run);
	int n;

	n = snprintf(line, sizeof(line), "%s: %s%s%s%s%s%s%s%s%s: ", caller->name, call->verb,
		experiment ? " " : "", experiment ? experiment : "", run ? " of run " : "",
		run ? run : "", fault ? ", " : "", fault ? fault : "", instance ? " on " : "",
		instance ? instance : "");
	if (n < 0 || (size_t)n >= sizeof(line))
		n = (int)strlen(line);
	if (call->error)
		snprintf(line + n, sizeof(line) - (size_t)n, "%u, %s", call->status, call->error);
	else
		snprintf(line + n, sizeof(line) - (size_t)n, "%u%s%s", call->status,
			state ? ", " : "", state ? state : "");
	if (call->decision) {
		size_t used = strlen(line);

		snprintf(line + used, sizeof(line) - used, "; %s", call->decision);
	}
	tell(server, line, experiment, instance);
}

void audit_decision(const struct authorize_ask *ask, const struct decision *d, void *data)
{
	struct api_server *server = data;
	char line[LINE_MAX_BYTES];

	snprintf(line, sizeof(line), "%.160s: %s %s faults.pgjolt.io in namespace %s: %.300s",
		*d->user ? d->user : "a token", d->stranger ? "is nobody's, may not" : d->allowed ?
		"may" : "may not", ask->verb, ask->namespace, d->why);
	tell(server, line, NULL, NULL);
}

void audit_refusal(struct api_server *server, const struct caller *caller, const char *method,
	const char *path, const char *why)
{
	struct audit_window *w = &server->refusals;
	char line[LINE_MAX_BYTES];
	uint64_t now = now_ns();

	server->metrics.refused_callers++;
	if (w->since_ns == 0 || now - w->since_ns > AUDIT_REFUSED_WINDOW_MS * NS_PER_MS) {
		if (w->untold > 0) {
			snprintf(line, sizeof(line), "%u more calls were refused", w->untold);
			tell(server, line, NULL, NULL);
		}
		*w = (struct audit_window){.since_ns = now};
	}
	if (w->told >= AUDIT_REFUSED_MAX) {
		w->untold++;
		return;
	}
	w->told++;
	snprintf(line, sizeof(line), "%s: %.16s %.200s: %u, %s", caller->name, method, path,
		caller->status, why);
	tell(server, line, NULL, NULL);
}
