#include "unit/experiment/fake.h"

TestSuite(replay, .init = rig_up, .fini = rig_down);

/* As if the agent had died: what it held is gone, the journal stays. */
static void die(const char *id)
{
	char path[512], text[4096] = "";
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s.json", rig.folder, id);
	f = fopen(path, "r");
	cr_assert_not_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	rig_close();
	snprintf(path, sizeof(path), "%s.json", id);
	rig_put(path, text);
	memset(&fake, 0, sizeof(fake));
	rig.news[0] = '\0';
	rig_open();
}

static void entry_of_boot(const char *id, const char *fault, const char *boot_id)
{
	char name[128], text[1024];

	snprintf(name, sizeof(name), "%s.json", id);
	snprintf(text, sizeof(text),
		"{\"experiment\": \"%s\", \"run\": \"run-1\", \"fault\": \"%s\", \"instance\": \"lab/pg1\","
		" \"pid\": 77, \"start_ticks\": 5, \"boot_id\": \"%s\", \"written_realtime_ns\": 9,"
		" \"undo\": {\"token\": \"%s\"}}", id, fault, boot_id, id);
	rig_put(name, text);
}

Test(replay, undoes_what_the_journal_holds)
{
	struct experiment_info *i;
	struct experiment *e;

	experiment_fire(rig_arm("ex-1", "fake-count"), NULL);
	die("ex-1");
	cr_assert_eq(experiments_replay(rig.all, NULL), 0);
	cr_assert_str_eq(fake.calls, "vc");
	cr_assert_str_eq(fake.undone, "ex-1");
	cr_assert_not(rig_has("ex-1.json"));
	cr_assert_eq(experiments_find(rig.all, "ex-1", &e, NULL), 0);
	i = experiment_describe(e);
	cr_assert_eq(i->state, EXPERIMENT_CLEAN);
	cr_assert_eq(i->end_reason, END_REPLAY);
	experiment_info_free(i);
	cr_assert_eq(experiment_fire(e, NULL), -ESTALE);
}

Test(replay, an_earlier_boot_left_nothing)
{
	const char *reason;

	entry_of_boot("ex-1", "fake-count", "another-boot");
	cr_assert_eq(experiments_replay(rig.all, NULL), 0);
	cr_assert_str_eq(fake.calls, "");
	cr_assert_not(rig_has("ex-1.json"));
	cr_assert(experiments_accepting(rig.all, &reason));
}

Test(replay, an_unknown_fault_is_kept_aside)
{
	const char *reason;

	entry_of_boot("ex-1", "fake-of-the-future", BOOT_ID);
	cr_assert_eq(experiments_replay(rig.all, NULL), 0);
	cr_assert_not(rig_has("ex-1.json"));
	cr_assert(rig_has("ex-1.json.bad"));
	cr_assert_not(experiments_accepting(rig.all, &reason));
	cr_assert_not_null(strstr(reason, "ex-1.json.bad"));
	cr_assert_not_null(strstr(reason, "--discard-bad"));
}

Test(replay, a_record_that_makes_no_sense_is_kept_aside)
{
	const char *reason;

	entry_of_boot("ex-1", "fake-count", BOOT_ID);
	fake.fail_revert = EBADMSG;
	fake.fail_times = 1;
	cr_assert_eq(experiments_replay(rig.all, NULL), 0);
	cr_assert(rig_has("ex-1.json.bad"));
	cr_assert_not(experiments_accepting(rig.all, &reason));
}

Test(replay, what_is_stuck_is_tried_again)
{
	struct experiment *e;

	entry_of_boot("ex-1", "fake-count", BOOT_ID);
	fake.fail_revert = EIO;
	fake.fail_times = 2;
	cr_assert_eq(experiments_replay(rig.all, NULL), 0);
	cr_assert_eq(experiments_find(rig.all, "ex-1", &e, NULL), 0);
	cr_assert(rig_wait(e, EXPERIMENT_STUCK));
	cr_assert(rig_wait(e, EXPERIMENT_CLEAN));
	cr_assert_not(rig_has("ex-1.json"));
}

Test(replay, garbage_makes_the_node_refuse)
{
	struct arm_request r = rig_request("ex-9", "fake-count");
	struct experiment *e = NULL;

	rig_put("ex-1.json", "{\"experiment\": \"ex-1\", \"ru");
	cr_assert_eq(experiments_replay(rig.all, NULL), 0);
	cr_assert(rig_has("ex-1.json.bad"));
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), -EBUSY);
	cr_assert_str_eq(fake.calls, "");
}
