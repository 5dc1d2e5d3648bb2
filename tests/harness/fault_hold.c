/*
 * fault-hold FAULT PID PARAMS: one fault on the namespaces of a process, through its driver alone,
 * without an agent. Arms, prints {"armed": true, ...}, then obeys lines on stdin: "fire",
 * "observe", "end"; answers each with one line of JSON. The end of stdin ends it too.
 * fault-hold probe FAULT: prints what the driver's probe() says.
 */
#include <stdio.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "kernel/proc.h"

#define DURATION_NS (120 * NS_PER_S)

static void say(cJSON *o)
{
	_cleanup_free_ char *text = json_print(o);

	printf("%s\n", text);
	fflush(stdout);
	cJSON_Delete(o);
}

static int fail(const struct err *e, int code)
{
	cJSON *o = json_object();

	json_add_string(o, "error", e ? err_text(e) : strerror(-code));
	json_add_int(o, "code", code);
	say(o);
	return 1;
}

static int probe(const struct fault_driver *d)
{
	const struct node node = {.name = "test"};
	_cleanup_err_ struct err *err = NULL;
	struct support s = {0};
	int r = d->probe(&node, &s, &err);
	cJSON *o;

	if (r < 0)
		return fail(err, r);
	o = json_object();
	json_add_bool(o, "supported", s.supported);
	json_add_string(o, "mechanism", s.mechanism);
	json_add_string(o, "reason", s.reason);
	say(o);
	support_done(&s);
	return 0;
}

static int fire(struct fault *f)
{
	_cleanup_err_ struct err *err = NULL;
	uint64_t before = now_ns();
	cJSON *o;
	int r;

	f->deadline_boot_ns = boot_ns() + f->duration_ns;
	r = f->driver->fire(f, &err);
	if (r < 0)
		return fail(err, r);
	o = json_object();
	json_add_uint(o, "fire_ns", now_ns() - before);
	say(o);
	return 0;
}

static int observe(const struct fault *f)
{
	_cleanup_err_ struct err *err = NULL;
	struct evidence e = {0};
	int r = f->driver->observe(f, &e, &err);
	cJSON *o;

	if (r < 0)
		return fail(err, r);
	o = json_object();
	json_add_uint(o, "hits", e.hits);
	json_add_item(o, "detail", steal_ptr(e.detail));
	say(o);
	return 0;
}

static int end(struct fault *f, struct undo *u)
{
	_cleanup_err_ struct err *err = NULL;
	uint64_t before = now_ns(), released;
	cJSON *o;
	int r;

	f->driver->release(f);
	released = now_ns();
	r = f->driver->revert(u, &err);
	if (r == 0)
		r = f->driver->verify_clean(u, &err);
	undo_done(u);
	if (r < 0)
		return fail(err, r);
	o = json_object();
	json_add_bool(o, "clean", true);
	json_add_ms(o, "release_ms", released - before);
	json_add_ms(o, "end_ms", now_ns() - before);
	say(o);
	return 0;
}

static int arm(struct fault *f, struct undo *u)
{
	_cleanup_err_ struct err *err = NULL;
	uint64_t before = now_ns();
	int r = f->driver->arm(f, u, &err);
	cJSON *o;

	if (r < 0)
		return fail(err, r);
	o = json_object();
	json_add_bool(o, "armed", true);
	json_add_ms(o, "arm_ms", now_ns() - before);
	json_add_item(o, "record", cJSON_Duplicate(u->record, true));
	say(o);
	return 0;
}

static int hold(struct fault *f)
{
	struct undo undo = {.spec = f->driver->spec};
	char line[64];

	if (arm(f, &undo))
		return 1;
	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "fire\n") == 0)
			fire(f);
		else if (strcmp(line, "observe\n") == 0)
			observe(f);
		else if (strcmp(line, "end\n") == 0)
			break;
	}
	return end(f, &undo);
}

int main(int argc, char **argv)
{
	_cleanup_(params_freep) struct params *params = NULL;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_json_ cJSON *json = NULL;
	const struct node node = {.name = "test", .halt_at = getenv("PGJOLT_HALT_AT")};
	struct instance_info instance = {.name = (char *)"test/target"};
	struct fault f = {
		.node = &node,
		.experiment = "test",
		.instance = &instance,
		.duration_ns = DURATION_NS,
	};
	struct proc_id id;
	int r;

	if (argc == 3 && strcmp(argv[1], "probe") == 0) {
		r = registry_find(argv[2], &f.driver, &err);
		return r < 0 ? fail(err, r) : probe(f.driver);
	}
	if (argc != 4) {
		fprintf(stderr, "usage: fault-hold FAULT PID PARAMS | fault-hold probe FAULT\n");
		return 2;
	}
	r = registry_find(argv[1], &f.driver, &err);
	if (r == 0)
		r = json_parse(argv[3], strlen(argv[3]), &json, &err);
	if (r == 0)
		r = params_from_json(f.driver->spec, json, &params, &err);
	if (r == 0)
		r = proc_identify((pid_t)atoi(argv[2]), &id, &err);
	if (r < 0)
		return fail(err, r);
	instance.pid = id.pid;
	instance.start_ticks = id.start_ticks;
	f.params = params;
	return hold(&f);
}
