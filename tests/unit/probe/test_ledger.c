#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "core/durable.h"
#include "probe/ledger.h"

struct fixture {
	sd_event *event;
	struct run_record *record;
	char folder[64];
	char *failure;
};

static void on_failed(const struct err *err, void *data)
{
	struct fixture *f = data;

	cr_assert_null(f->failure, "told twice");
	f->failure = strdup(err_text(err));
}

static void fixture_init(struct fixture *f)
{
	*f = (struct fixture){.record = run_record_new()};
	f->record->run = strdup("run-1");
	f->record->n_clients = 1;
	f->record->clients = calloc(1, sizeof(*f->record->clients));
	f->record->clients[0].name = strdup("write-clients");
	strcpy(f->folder, "/tmp/pj-probe-unit-XXXXXX");
	cr_assert_not_null(mkdtemp(f->folder));
	cr_assert_eq(sd_event_new(&f->event), 0);
}

static void fixture_done(struct fixture *f)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/" LEDGER_FILE, f->folder);
	unlink(path);
	rmdir(f->folder);
	sd_event_unref(f->event);
	run_record_free(f->record);
	free(f->failure);
}

Test(ledger, lines_are_there_at_once_and_in_order)
{
	const struct attempt a = {.client = 0, .sequence = 1, .done_ns = 30, .instance = -1,
		.outcome = OUTCOME_UNKNOWN, .sqlstate = "HYT00"};
	_cleanup_(ledger_freep) struct ledger *l = NULL;
	_cleanup_free_ char *text = NULL;
	struct fixture f;
	char path[96];

	fixture_init(&f);
	snprintf(path, sizeof(path), "%s/" LEDGER_FILE, f.folder);
	cr_assert_eq(ledger_open(f.event, f.folder, f.record, on_failed, &f, &l, NULL), 0);
	cr_assert_eq(ledger_attempt(l, 0, 1, 20), 0);
	cr_assert_eq(file_read(-1, path, 4096, &text, NULL, NULL), 0);
	cr_assert(strstr(text, "\nC 0 write-clients\nA 0 1 20\n"), "%s", text);
	cr_assert_eq(strncmp(text, "pgjolt-ledger 1 run-1 ", 22), 0);
	cr_assert_eq(ledger_outcome(l, &a), 0);
	cr_assert_eq(ledger_close(l, NULL), 0);
	free(text);
	text = NULL;
	cr_assert_eq(file_read(-1, path, 4096, &text, NULL, NULL), 0);
	cr_assert(strstr(text, "A 0 1 20\nO 0 1 30 unknown - 0 HYT00\nE 1 1\n"), "%s", text);
	fixture_done(&f);
}

Test(ledger, does_not_overwrite)
{
	_cleanup_(ledger_freep) struct ledger *l = NULL, *second = NULL;
	_cleanup_err_ struct err *err = NULL;
	struct fixture f;

	fixture_init(&f);
	cr_assert_eq(ledger_open(f.event, f.folder, f.record, on_failed, &f, &l, NULL), 0);
	cr_assert_eq(ledger_open(f.event, f.folder, f.record, on_failed, &f, &second, &err), -EEXIST);
	fixture_done(&f);
}

Test(ledger, says_once_that_it_takes_no_more)
{
	const struct rlimit limit = {4096, 4096};
	_cleanup_(ledger_freep) struct ledger *l = NULL;
	_cleanup_err_ struct err *err = NULL;
	struct fixture f;
	int r = 0;

	fixture_init(&f);
	cr_assert_eq(ledger_open(f.event, f.folder, f.record, on_failed, &f, &l, NULL), 0);
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	for (uint64_t i = 1; i < 1000 && r == 0; i++)
		r = ledger_attempt(l, 0, i, i);
	cr_assert_eq(r, -EFBIG);
	cr_assert_eq(ledger_attempt(l, 0, 1001, 1), -EFBIG, "it stays so");
	for (int i = 0; i < 3; i++)
		sd_event_run(f.event, 1000);
	cr_assert(f.failure && strstr(f.failure, LEDGER_FILE));
	cr_assert_eq(ledger_close(l, &err), -EFBIG);
	fixture_done(&f);
}
