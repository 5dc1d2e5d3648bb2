/*
 * One fault on one process, by hand: what the system tests of faults use where they need to stop
 * between the steps.
 *
 *   fault-driver FAULT PID PARAMS_JSON
 *
 * Commands on stdin, a line each; one line of JSON on stdout for each: {"ok":..., "us":..., ...}.
 *   probe | arm | fire MS | observe | release | revert [RECORD] | verify [RECORD] | quit
 * "arm" places too, and prints the journal's record; "fire MS": inert by itself after MS milliseconds;
 * "revert" and "verify" take the record of another process. End of input releases nothing: the kernel
 * does. PGJOLT_WITHOUT_TCX in the environment: as on a kernel before 6.6.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "kernel/netns.h"
#include "kernel/proc.h"

struct session {
	struct node node;
	struct instance_info instance;
	struct params *params;
	struct fault fault;
	struct undo undo;
};

static int start(struct session *s, char **argv, struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;
	struct proc_id id;
	int r;

	r = registry_find(argv[1], &s->fault.driver, err);
	if (r == 0)
		r = json_parse(argv[3], strlen(argv[3]), &json, err);
	if (r == 0)
		r = params_from_json(s->fault.driver->spec, json, &s->params, err);
	if (r == 0)
		r = proc_identify((pid_t)atoi(argv[2]), &id, err);
	if (r < 0)
		return r;
	s->instance = (struct instance_info){
		.name = "test/instance",
		.pid = id.pid,
		.start_ticks = id.start_ticks,
	};
	s->node.name = "test";
	s->node.without_tcx = getenv("PGJOLT_WITHOUT_TCX");
	s->fault.node = &s->node;
	s->fault.experiment = "test";
	s->fault.instance = &s->instance;
	s->fault.params = s->params;
	s->undo.spec = s->fault.driver->spec;
	return 0;
}

static int run_observe(struct session *s, cJSON *answer, struct err **err)
{
	struct evidence e = {0};
	int r = s->fault.driver->observe(&s->fault, &e, err);

	if (r < 0)
		return r;
	json_add_uint(answer, "hits", e.hits);
	json_add_item(answer, "detail", steal_ptr(e.detail));
	evidence_done(&e);
	return 0;
}

static int run_probe(struct session *s, cJSON *answer, struct err **err)
{
	struct support support = {0};
	int r = s->fault.driver->probe(&s->node, &support, err);

	if (r < 0)
		return r;
	json_add_bool(answer, "supported", support.supported);
	json_add_string(answer, "mechanism", support.mechanism);
	json_add_string(answer, "reason", support.reason);
	support_done(&support);
	return 0;
}

static int run(struct session *s, const char *command, cJSON *answer, struct err **err)
{
	const struct fault_driver *d = s->fault.driver;

	if (strcmp(command, "probe") == 0)
		return run_probe(s, answer, err);
	if (strcmp(command, "arm") == 0) {
		int r = d->arm(&s->fault, &s->undo, err);

		if (r == 0 && d->place) {
			r = d->place(&s->fault, &s->undo, err);
			if (r < 0) {
				d->release(&s->fault);
				d->revert(&s->undo, NULL);
			}
		}
		json_add_item(answer, "record", r == 0 ? cJSON_Duplicate(s->undo.record, true) : NULL);
		return r;
	}
	if (strncmp(command, "fire ", 5) == 0) {
		s->fault.duration_ns = strtoull(command + 5, NULL, 10) * NS_PER_MS;
		s->fault.deadline_boot_ns = boot_ns() + s->fault.duration_ns;
		return d->fire(&s->fault, err);
	}
	if (strcmp(command, "observe") == 0)
		return run_observe(s, answer, err);
	if (strcmp(command, "release") == 0) {
		d->release(&s->fault);
		return 0;
	}
	if (strcmp(command, "revert") == 0)
		return d->revert(&s->undo, err);
	if (strcmp(command, "verify") == 0)
		return d->verify_clean(&s->undo, err);
	if (strncmp(command, "verify ", 7) == 0 || strncmp(command, "revert ", 7) == 0) {
		struct undo other = {.spec = d->spec};
		int r = json_parse(command + 7, strlen(command + 7), &other.record, err);

		if (r == 0)
			r = command[0] == 'v' ? d->verify_clean(&other, err) : d->revert(&other, err);
		undo_done(&other);
		return r;
	}
	return err_set(err, EINVAL, "unknown command '%s'", command);
}

static void answer_one(struct session *s, const char *command)
{
	_cleanup_json_ cJSON *answer = json_object();
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ char *text = NULL;
	uint64_t began = now_ns();
	int r = run(s, command, answer, &err);

	json_add_bool(answer, "ok", r == 0);
	json_add_double(answer, "us", (double)(now_ns() - began) / 1000);
	if (r < 0)
		json_add_string(answer, "error", err_text(err));
	text = json_print(answer);
	puts(text);
	fflush(stdout);
}

static void session_done(struct session *s)
{
	undo_done(&s->undo);
	params_free(s->params);
}

int main(int argc, char **argv)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_(session_done) struct session s = {0};
	char line[4096];

	if (argc != 4) {
		fprintf(stderr, "usage: fault-driver FAULT PID PARAMS_JSON\n");
		return 2;
	}
	if (start(&s, argv, &err) < 0) {
		fprintf(stderr, "%s\n", err_text(err));
		return 2;
	}
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, "quit") == 0)
			break;
		answer_one(&s, line);
	}
	return 0;
}
