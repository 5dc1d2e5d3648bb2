#include "unit/experiment/fake.h"

static char folder[64];
static struct journal *journal;

static void open_journal(void)
{
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(journal_open(folder, &journal, &err), 0, "%s", err_text(err));
}

static void up(void)
{
	snprintf(folder, sizeof(folder), "/tmp/pj-spine-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(rig.folder, sizeof(rig.folder), "%s", folder);
	open_journal();
}

static void down(void)
{
	journal_close(journal);
	rig_empty_folder();
}

TestSuite(journal, .init = up, .fini = down);

static struct journal_entry entry(const char *id, cJSON *undo)
{
	return (struct journal_entry){
		.experiment = (char *)id,
		.run = (char *)"run-1",
		.fault = (char *)"net-partition",
		.instance = (char *)"lab/pg1",
		.postmaster = {4711, 123456789012ULL},
		.boot_id = (char *)BOOT_ID,
		.written_realtime_ns = 1760000000123456789ULL,
		.undo = undo,
	};
}

static void entries_free(struct journal_entry **list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		journal_entry_free(list[i]);
	free(list);
}

Test(journal, gives_back_what_was_written)
{
	_cleanup_json_ cJSON *undo = cJSON_Parse("{\"file\": \"/x\", \"frozen\": false}");
	struct journal_entry e = entry("ex-1", undo), **list;
	char **bad;
	size_t count;

	cr_assert_eq(journal_write(journal, &e, NULL), 0);
	cr_assert_eq(journal_read_all(journal, &list, &count, &bad, NULL), 0);
	cr_assert_eq(count, 1);
	cr_assert_null(bad);
	cr_assert_str_eq(list[0]->experiment, "ex-1");
	cr_assert_str_eq(list[0]->run, "run-1");
	cr_assert_str_eq(list[0]->fault, "net-partition");
	cr_assert_str_eq(list[0]->instance, "lab/pg1");
	cr_assert_eq(list[0]->postmaster.pid, 4711);
	cr_assert_eq(list[0]->postmaster.start_ticks, 123456789012ULL);
	cr_assert_eq(list[0]->written_realtime_ns, 1760000000123456789ULL);
	cr_assert(cJSON_Compare(list[0]->undo, undo, true));
	entries_free(list, count);
	cr_assert_eq(journal_remove(journal, "ex-1", NULL), 0);
	cr_assert_eq(journal_remove(journal, "ex-1", NULL), 0);
	cr_assert_eq(journal_read_all(journal, &list, &count, &bad, NULL), 0);
	cr_assert_eq(count, 0);
	free(list);
}

Test(journal, takes_no_path_for_an_id)
{
	struct journal_entry e = entry("../../tmp/x", NULL);

	cr_assert_eq(journal_write(journal, &e, NULL), -EINVAL);
	cr_assert_eq(journal_remove(journal, "a/b", NULL), -EINVAL);
	cr_assert_eq(journal_remove(journal, "", NULL), -EINVAL);
}

Test(journal, cut_off_anywhere_an_entry_is_bad)
{
	_cleanup_json_ cJSON *undo = cJSON_Parse("{\"token\": \"x\"}");
	struct journal_entry e = entry("ex-1", undo), **list;
	char path[512], text[4096];
	size_t count, whole, discarded;
	char **bad;
	FILE *f;

	cr_assert_eq(journal_write(journal, &e, NULL), 0);
	snprintf(path, sizeof(path), "%s/ex-1.json", folder);
	f = fopen(path, "r");
	whole = fread(text, 1, sizeof(text), f);
	fclose(f);
	while (whole > 0 && text[whole - 1] == '\n')
		whole--;
	for (size_t n = 0; n < whole; n++) {
		f = fopen(path, "w");
		fwrite(text, 1, n, f);
		fclose(f);
		cr_assert_eq(journal_read_all(journal, &list, &count, &bad, NULL), 0);
		cr_assert_eq(count, 0, "cut at %zu of %zu", n, whole);
		cr_assert_eq(strv_length(bad), 1);
		cr_assert_str_eq(bad[0], "ex-1.json.bad");
		free(list);
		strv_free(bad);
		cr_assert_eq(journal_discard_bad(journal, &discarded, NULL), 0);
		cr_assert_eq(discarded, 1);
	}
}

Test(journal, keeps_every_kind_of_garbage_aside)
{
	static const char *const garbage[] = {
		"", "\xff\xfe", "[]", "null", "{}", "{\"experiment\": 3}",
		/* valid, but under another's name */
		"{\"experiment\": \"ex-9\", \"run\": \"r\", \"fault\": \"f\", \"instance\": \"i\", \"pid\": 1,"
		" \"start_ticks\": 1, \"boot_id\": \"b\", \"written_realtime_ns\": 1, \"undo\": {}}",
		/* undo is no object */
		"{\"experiment\": \"ex-7\", \"run\": \"r\", \"fault\": \"f\", \"instance\": \"i\", \"pid\": 1,"
		" \"start_ticks\": 1, \"boot_id\": \"b\", \"written_realtime_ns\": 1, \"undo\": 4}",
	};
	struct journal_entry **list;
	char **bad, name[32];
	size_t count;

	for (size_t k = 0; k < ELEMENTS(garbage); k++) {
		snprintf(name, sizeof(name), "ex-%zu.json", k);
		rig_put(name, garbage[k]);
	}
	rig_put("UPPER CASE.json", "{}");
	rig_put("notes.txt", "not an entry at all");
	cr_assert_eq(journal_read_all(journal, &list, &count, &bad, NULL), 0);
	cr_assert_eq(count, 0);
	cr_assert_eq(strv_length(bad), ELEMENTS(garbage) + 1);
	free(list);
	strv_free(bad);
	/* They are told about every time until they are discarded. */
	cr_assert_eq(journal_read_all(journal, &list, &count, &bad, NULL), 0);
	cr_assert_eq(strv_length(bad), ELEMENTS(garbage) + 1);
	free(list);
	strv_free(bad);
	cr_assert(rig_has("notes.txt"));
}

Test(journal, sweeps_what_a_write_that_never_ended_left)
{
	journal_close(journal);
	rig_put(".ex-1.json.tmp", "{\"experiment\": \"ex");
	open_journal();
	cr_assert_not(rig_has(".ex-1.json.tmp"));
}

Test(journal, is_locked_against_a_second_agent)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct journal *second = NULL;
		struct err *err = NULL;
		char pid[32];
		int r = journal_open(folder, &second, &err);

		snprintf(pid, sizeof(pid), "pid %d", (int)getppid());
		_exit(r == -EBUSY && strstr(err_text(err), pid) ? 0 : 1);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

Test(journal, takes_no_folder_that_others_can_write)
{
	struct journal *other = NULL;

	journal_close(journal);
	journal = NULL;
	cr_assert_eq(chmod(folder, 0722), 0);
	cr_assert_eq(journal_open(folder, &other, NULL), -EPERM);
	cr_assert_eq(chmod(folder, 0700), 0);
	if (geteuid() == 0) {
		cr_assert_eq(chown(folder, 65534, 65534), 0);
		cr_assert_eq(journal_open(folder, &other, NULL), -EPERM);
	}
	cr_assert_null(other);
}

Test(journal, creates_its_folder_for_root_alone)
{
	struct journal *inner;
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/a/b", folder);
	cr_assert_eq(journal_open(path, &inner, NULL), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0700);
	journal_close(inner);
	snprintf(path, sizeof(path), "rm -r '%s/a'", folder);
	cr_assert_eq(system(path), 0);
}
