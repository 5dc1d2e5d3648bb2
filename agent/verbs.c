#include "verbs.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <systemd/sd-event.h>
#include "core/durable.h"
#include "core/json.h"
#include "core/log.h"
#include "instance/instance.h"

static int read_effective(uint64_t *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	const char *line;
	size_t length;
	int r;

	r = file_read(AT_FDCWD, "/proc/self/status", 64 << 10, &text, &length, err);
	if (r < 0)
		return r;
	line = strstr(text, "\nCapEff:");
	if (!line)
		return err_set(err, EIO, "/proc/self/status has no CapEff");
	*ret = strtoull(line + strlen("\nCapEff:"), NULL, 16);
	return 0;
}

int privileges_check(struct err **err)
{
	/* Without these no instance can be looked at. What else is missing turns those faults off
	 * that need it; their probes say so. */
	const uint64_t look = 1ULL << CAP_SYS_PTRACE;
	const uint64_t read_any = 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_DAC_READ_SEARCH;
	uint64_t effective = 0;
	int r;

	if (geteuid() != 0)
		return err_set(err, EPERM, "must run as root (this is user %u)", geteuid());
	r = read_effective(&effective, err);
	if (r < 0)
		return r;
	if (!(effective & look))
		return err_set(err, EPERM, "root here lacks CAP_SYS_PTRACE: no instance could be found");
	if (!(effective & read_any))
		return err_set(err, EPERM,
			"root here lacks CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: no instance could be found");
	return 0;
}

static int fail(int r, const struct err *err)
{
	fprintf(stderr, "pgjolt-agent: %s\n", err_text(err));
	return r == -EBUSY || r == -EPERM ? EXIT_CODE_REFUSED : EXIT_CODE_FAILED;
}

int verb_serve(struct options *o)
{
	_cleanup_(agent_freep) struct agent *a = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r;

	r = agent_new(&o->config, &a, &err);
	if (r < 0)
		return fail(r, err);
	r = agent_run(a, &err);
	if (r == -EIO) {
		fprintf(stderr, "pgjolt-agent: %s\n", err_text(err));
		return EXIT_CODE_LEFT;
	}
	return r < 0 ? fail(r, err) : EXIT_CODE_DONE;
}

static void print_support(const char *fault, const struct support *s, cJSON *list)
{
	cJSON *item;

	if (!list) {
		printf("%-16s %-10s %-26s %s\n", fault, s->supported ? "yes" : "no",
			s->mechanism ? s->mechanism : "-", s->reason ? s->reason : "");
		return;
	}
	item = json_object();
	json_add_string(item, "fault", fault);
	json_add_bool(item, "supported", s->supported);
	json_add_string(item, "mechanism", s->mechanism);
	json_add_string(item, "reason", s->reason);
	json_append(list, item);
}

int verb_probe(struct options *o)
{
	_cleanup_json_ cJSON *list = o->json ? json_array() : NULL;
	struct node node = {
		.name = o->config.node_name ? o->config.node_name : "localhost",
		.without_tcx = o->config.without_tcx,
	};
	_cleanup_err_ struct err *err = NULL;
	int r;

	r = registry_check(&err);
	if (r < 0)
		return fail(r, err);
	r = sd_event_new(&node.event);
	if (r < 0)
		return fail(r, NULL);
	if (!list)
		printf("%-16s %-10s %-26s %s\n", "FAULT", "SUPPORTED", "MECHANISM", "REASON");
	for (const struct fault_driver *const *d = registry_drivers(); *d; d++) {
		_cleanup_err_ struct err *why = NULL;
		struct support s = {0};

		if ((*d)->probe(&node, &s, &why) < 0) {
			support_done(&s);
			s = (struct support){.reason = strdup(err_text(why))};
		}
		print_support((*d)->spec->name, &s, list);
		support_done(&s);
	}
	sd_event_unref(node.event);
	if (list) {
		_cleanup_free_ char *text = json_print_pretty(list);

		printf("%s\n", text);
	}
	return EXIT_CODE_DONE;
}

static void on_event(const struct agent_event *event, void *data)
{
	(void)data;
	printf("%s%s%s\n", event->experiment ? event->experiment : "",
		event->experiment ? ": " : "", event->text);
}

static int count_bad(struct journal *journal, size_t *ret, struct err **err)
{
	struct journal_entry **entries = NULL;
	_cleanup_strv_ char **bad = NULL;
	size_t count = 0;
	int r;

	r = journal_read_all(journal, &entries, &count, &bad, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++)
		journal_entry_free(entries[i]);
	free(entries);
	*ret = strv_length(bad);
	return 0;
}

static int finish_bad(struct options *o, struct journal *journal, struct err **err)
{
	size_t count = 0;
	int r;

	if (!o->discard_bad) {
		r = count_bad(journal, &count, err);
		if (r < 0)
			return fail(r, *err);
		if (count == 0)
			return EXIT_CODE_DONE;
		fprintf(stderr,
			"pgjolt-agent: %zu broken journal entries are kept in %s (*.bad), each maybe a "
			"fault's only trace. Look at them and at the instance that they name, then: "
			"pgjolt-agent revert-all --discard-bad\n", count, o->config.journal_path);
		return EXIT_CODE_LEFT;
	}
	if (journal_discard_bad(journal, &count, err) < 0)
		return fail(-EIO, *err);
	printf("%zu broken entries discarded\n", count);
	return EXIT_CODE_DONE;
}

static int revert_journal(struct options *o, struct journal *journal, const char *boot_id,
	struct err **err)
{
	struct node node = {.name = "localhost"};
	struct experiments_config config = {
		.node = &node,
		.boot_id = boot_id,
		.journal = journal,
		.limits = &o->config.limits,
		.listener = on_event,
		.find_fault = registry_find,
		.find_instance = instance_find,
	};
	struct experiments *all = NULL;
	const char *reason = NULL;
	size_t left = 0;
	int r;

	r = sd_event_new(&node.event);
	if (r < 0)
		return fail(r, NULL);
	r = experiments_new(&config, &all, err);
	if (r >= 0)
		r = experiments_replay(all, err);
	if (r >= 0)
		r = experiments_revert_all(all, END_REPLAY, &left, err);
	if (r < 0) {
		r = fail(r, *err);
	} else if (left > 0) {
		experiments_accepting(all, &reason);
		fprintf(stderr,
			"pgjolt-agent: %zu left: %s\nIts entry stays in %s. Remove the cause and run this "
			"again; where the instance is clean, delete the entry's file.\n",
			left, reason, o->config.journal_path);
		r = EXIT_CODE_LEFT;
	} else {
		r = finish_bad(o, journal, err);
	}
	experiments_free(all);
	sd_event_unref(node.event);
	return r;
}

int verb_revert_all(struct options *o)
{
	_cleanup_free_ char *boot_id = NULL;
	_cleanup_err_ struct err *err = NULL;
	struct journal *journal = NULL;
	size_t length;
	int r;

	r = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 128, &boot_id, &length, &err);
	if (r < 0)
		return fail(r, err);
	boot_id[strcspn(boot_id, "\n")] = '\0';
	r = journal_open(o->config.journal_path, &journal, &err);
	if (r == -EBUSY) {
		fprintf(stderr, "pgjolt-agent: %s; it can revert by itself: pgjolt stop --all\n",
			err_text(err));
		return EXIT_CODE_REFUSED;
	}
	if (r < 0)
		return fail(r, err);
	r = revert_journal(o, journal, boot_id, &err);
	journal_close(journal);
	return r;
}
