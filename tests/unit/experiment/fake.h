/* A node for the state machine's tests: a fault that only counts, an instance that is a sleeping
 * child, a journal in a folder of its own. */
#pragma once

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "core/clock.h"
#include "experiment/experiment.h"
#include "kernel/proc.h"

#define BOOT_ID "5f3c0a52-boot"

static struct {
	char calls[512];		/* letters: a p f o r v c (arm place fire observe release revert clean) */
	int fail_place, fail_arm, fail_fire, fail_revert, fail_verify;	/* errno for the next calls */
	int fail_times;			/* how many calls of revert/verify fail */
	bool gone;
	char undone[64];		/* what the record of the last revert said */
} fake;

static void called(const char *letter)
{
	strncat(fake.calls, letter, sizeof(fake.calls) - strlen(fake.calls) - 1);
}

static int fake_probe(const struct node *node, struct support *ret, struct err **err)
{
	(void)node, (void)err;
	ret->supported = true;
	return 0;
}

static int fake_arm(struct fault *f, struct undo *ret, struct err **err)
{
	called("a");
	if (fake.fail_arm)
		return err_set(err, fake.fail_arm, "arming does not work");
	ret->record = json_object();
	json_add_string(ret->record, "token", f->experiment);
	f->mechanism = "counting";
	f->lifetime = LIFETIME_HELD;
	return 0;
}

static int fake_fire(struct fault *f, struct err **err)
{
	called("f");
	cr_assert_gt(f->deadline_boot_ns, boot_ns());
	return fake.fail_fire ? err_set(err, fake.fail_fire, "firing does not work") : 0;
}

static int fake_observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	(void)f, (void)err;
	called("o");
	ret->hits = 7;
	ret->detail = json_object();
	json_add_uint(ret->detail, "counted", 7);
	return 0;
}

static void fake_release(struct fault *f)
{
	(void)f;
	called("r");
}

static int fake_revert(const struct undo *u, struct err **err)
{
	const cJSON *token = cJSON_GetObjectItem(u->record, "token");

	called("v");
	if (fake.fail_revert && fake.fail_times-- > 0)
		return err_set(err, fake.fail_revert, "the kernel says no");
	snprintf(fake.undone, sizeof(fake.undone), "%s",
		cJSON_IsString(token) ? token->valuestring : "");
	return 0;
}

static int fake_verify(const struct undo *u, struct err **err)
{
	(void)u;
	called("c");
	if (fake.fail_verify && fake.fail_times-- > 0)
		return err_set(err, fake.fail_verify, "it is still there");
	return 0;
}

static inline bool rig_has(const char *name);

static int fake_place(struct fault *f, struct undo *u, struct err **err)
{
	char name[80];

	called("p");
	snprintf(name, sizeof(name), "%s.json", f->experiment);
	cr_assert(rig_has(name), "placed without a record on disk");
	cr_assert_not_null(cJSON_GetObjectItem(u->record, "token"));
	return fake.fail_place ? err_set(err, fake.fail_place, "placing does not work") : 0;
}

static bool fake_gone(const struct fault *f)
{
	(void)f;
	return fake.gone;
}

static const struct fault_spec fake_spec = {.name = "fake-count", .summary = "counts"};
static const struct fault_spec fake_net_spec = {.name = "net-fake", .summary = "counts"};
static const struct fault_spec fake_gone_spec = {.name = "fake-gone", .summary = "counts"};
static const struct fault_spec fake_place_spec = {.name = "fake-place", .summary = "counts"};

#define FAKE_OPERATIONS                                                                      \
	.probe = fake_probe, .arm = fake_arm, .fire = fake_fire, .observe = fake_observe,    \
	.release = fake_release, .revert = fake_revert, .verify_clean = fake_verify

static const struct fault_driver fake_drivers[] = {
	{.spec = &fake_spec, FAKE_OPERATIONS},
	{.spec = &fake_net_spec, FAKE_OPERATIONS},
	{.spec = &fake_gone_spec, FAKE_OPERATIONS, .target_is_gone = fake_gone},
	{.spec = &fake_place_spec, FAKE_OPERATIONS, .place = fake_place},
};

static int fake_find_fault(const char *name, const struct fault_driver **ret, struct err **err)
{
	for (size_t i = 0; i < sizeof(fake_drivers) / sizeof(fake_drivers[0]); i++) {
		if (strcmp(name, fake_drivers[i].spec->name) == 0) {
			*ret = &fake_drivers[i];
			return 0;
		}
	}
	return err_set(err, EINVAL, "unknown fault '%s'", name);
}

/* The node under test. */
static struct {
	char folder[64];
	struct node node;
	struct journal *journal;
	struct experiments *all;
	struct experiment_limits limits;
	pid_t target;			/* the postmaster of every instance */
	bool host_network;
	int (*check_fire)(const char *instance, uint64_t duration_ms, void *data, struct err **err);
	char news[1 << 16];		/* "state:armed state:firing ..." */
	unsigned n_news;
} rig;

/* Instances are all that begin with "lab/" or "prod/". */
static int fake_find_instance(const char *node_name, const char *name, struct instance_info **ret,
	struct err **err)
{
	struct instance_info *i;
	struct proc_id id;

	if (strncmp(name, "lab/", 4) != 0 && strncmp(name, "prod/", 5) != 0)
		return err_set(err, ENOENT, "no instance '%s'", name);
	if (proc_identify(rig.target, &id, NULL) < 0)
		return err_set(err, ENOENT, "no instance '%s'", name);
	i = calloc(1, sizeof(*i));
	i->name = strdup(name);
	i->cluster = strndup(name, strcspn(name, "/"));
	i->node = strdup(node_name);
	i->pid = id.pid;
	i->start_ticks = id.start_ticks;
	i->host_network = rig.host_network;
	*ret = i;
	return 0;
}

/* Three of lab, one of prod. */
static int fake_list_instances(struct instance_info ***ret, size_t *ret_count, void *data, struct err **err)
{
	static const char *const names[] = {"lab/pg1", "lab/pg2", "lab/pg3", "prod/pg1"};
	struct instance_info **list = calloc(4, sizeof(*list));

	(void)data;
	for (size_t i = 0; i < 4; i++)
		cr_assert_eq(fake_find_instance(rig.node.name, names[i], &list[i], err), 0);
	*ret = list;
	*ret_count = 4;
	return 0;
}

static inline void rig_listen(const struct agent_event *e, void *data)
{
	size_t used = strlen(rig.news);

	(void)data;
	rig.n_news++;
	snprintf(rig.news + used, sizeof(rig.news) - used, "%s%s%s ", e->kind, e->state ? ":" : "",
		e->state ? e->state : "");
}

static inline void rig_open(void)
{
	struct experiments_config config = {
		.node = &rig.node,
		.boot_id = BOOT_ID,
		.limits = &rig.limits,
		.listener = rig_listen,
		.find_fault = fake_find_fault,
		.find_instance = fake_find_instance,
		.check_fire = rig.check_fire,
		.list_instances = fake_list_instances,
	};

	cr_assert_eq(journal_open(rig.folder, &rig.journal, NULL), 0);
	config.journal = rig.journal;
	cr_assert_eq(experiments_new(&config, &rig.all, NULL), 0);
}

static inline void rig_close(void)
{
	experiments_free(rig.all);
	journal_close(rig.journal);
	rig.all = NULL;
	rig.journal = NULL;
}

static inline void rig_up(void)
{
	snprintf(rig.folder, sizeof(rig.folder), "/tmp/pj-spine-XXXXXX");
	cr_assert_not_null(mkdtemp(rig.folder));
	rig.limits = (struct experiment_limits){
		.duration_max_ms = 60000, .lease_max_ms = 60000, .concurrent_max = 32,
		.share_max_ppm = EXPERIMENT_SHARE_ALL};
	rig.node.name = "here";
	cr_assert_geq(sd_event_new(&rig.node.event), 0);
	rig.target = fork();
	if (rig.target == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	rig_open();
}

static inline void rig_kill_target(void)
{
	if (rig.target <= 0)
		return;
	kill(rig.target, SIGKILL);
	waitpid(rig.target, NULL, 0);
	rig.target = 0;
}

static inline bool rig_has(const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", rig.folder, name);
	return access(path, F_OK) == 0;
}

static inline void rig_put(const char *name, const char *text)
{
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", rig.folder, name);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
}

static inline void rig_empty_folder(void)
{
	DIR *d = opendir(rig.folder);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	rmdir(rig.folder);
}

static inline void rig_down(void)
{
	if (rig.all)
		rig_close();
	sd_event_unref(rig.node.event);
	rig_kill_target();
	rig_empty_folder();
}

/* Runs the loop until the experiment is in this state; false after 5 s. */
static inline bool rig_wait(struct experiment *e, enum experiment_state state)
{
	uint64_t end = now_ns() + 5 * NS_PER_S;

	while (now_ns() < end) {
		struct experiment_info *i = experiment_describe(e);
		bool there = i->state == state;

		experiment_info_free(i);
		if (there)
			return true;
		sd_event_run(rig.node.event, 20000);
	}
	return false;
}

/* By default 10 s and a lease of 10 s on lab/pg1. */
static inline struct arm_request rig_request(const char *id, const char *fault)
{
	return (struct arm_request){
		.experiment = (char *)id,
		.run = (char *)"run-1",
		.fault = (char *)fault,
		.instance = (char *)"lab/pg1",
		.duration_ms = 10000,
		.lease_ms = 10000,
	};
}

static inline struct experiment *rig_arm(const char *id, const char *fault)
{
	struct arm_request request = rig_request(id, fault);
	_cleanup_err_ struct err *err = NULL;
	struct experiment *e = NULL;

	cr_assert_eq(experiment_arm(rig.all, &request, &e, &err), 0, "%s", err_text(err));
	return e;
}
