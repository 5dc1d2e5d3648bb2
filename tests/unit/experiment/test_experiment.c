#include "unit/experiment/fake.h"
#include "experiment/machine.h"

TestSuite(experiment, .init = rig_up, .fini = rig_down);

Test(experiment, goes_its_way_from_arm_to_clean)
{
	struct experiment *e = rig_arm("ex-1", "fake-count");
	struct experiment_info *i;

	cr_assert_str_eq(fake.calls, "a");
	cr_assert(rig_has("ex-1.json"));
	cr_assert_eq(experiment_fire(e, NULL), 0);
	cr_assert_eq(experiment_fire(e, NULL), 0);	/* again: no second blow */
	cr_assert_str_eq(fake.calls, "af");
	i = experiment_describe(e);
	cr_assert_eq(i->state, EXPERIMENT_ACTIVE);
	cr_assert_eq(i->hits, 7);
	cr_assert_str_eq(i->mechanism, "counting");
	cr_assert_gt(i->remaining_ms, 5000);
	cr_assert_leq(i->remaining_ms, 10000);
	experiment_info_free(i);
	cr_assert_eq(experiment_revert(e, END_REQUESTED, NULL), 0);
	cr_assert_str_eq(fake.calls, "afoorvc");
	cr_assert_not(rig_has("ex-1.json"));
	cr_assert_str_eq(rig.news,
		"state:armed state:firing state:active state:reverting state:verifying state:clean ");
	cr_assert_eq(experiment_revert(e, END_REQUESTED, NULL), 0);
	cr_assert_str_eq(fake.calls, "afoorvc");
}

Test(experiment, keeps_times_and_evidence_of_an_ended_one)
{
	struct experiment *e = rig_arm("ex-1", "fake-count");
	struct experiment_info *i;

	experiment_fire(e, NULL);
	experiment_revert(e, END_REQUESTED, NULL);
	i = experiment_describe(e);
	cr_assert_eq(i->end_reason, END_REQUESTED);
	cr_assert(i->verified_clean);
	cr_assert_eq(i->hits, 7);
	cr_assert_eq(cJSON_GetObjectItem(i->evidence, "counted")->valueint, 7);
	cr_assert_leq(i->created_ns, i->armed_ns);
	cr_assert_leq(i->armed_ns, i->fired_ns);
	cr_assert_leq(i->fired_ns, i->reverted_ns);
	cr_assert_leq(i->reverted_ns, i->verified_ns);
	cr_assert_eq(i->remaining_ms, 0);
	cr_assert_eq(i->lease_remaining_ms, 0);
	experiment_info_free(i);
}

Test(experiment, the_same_request_again_has_the_same_answer)
{
	struct experiment *e = rig_arm("ex-1", "fake-count"), *again = NULL;
	struct arm_request request = rig_request("ex-1", "fake-count");

	cr_assert_eq(experiment_arm(rig.all, &request, &again, NULL), 0);
	cr_assert_eq(again, e);
	cr_assert_str_eq(fake.calls, "a");
	request.duration_ms = 9999;
	cr_assert_eq(experiment_arm(rig.all, &request, &again, NULL), -EEXIST);
	cr_assert_str_eq(fake.calls, "a");
}

Test(experiment, a_request_beyond_reason_is_not_kept)
{
	struct arm_request request = rig_request("ex-1", "fake-count");
	static char name[100000];
	_cleanup_err_ struct err *err = NULL;
	struct experiment *e = NULL;

	memset(name, 'x', sizeof(name) - 1);
	request.instance = name;
	cr_assert_eq(experiment_arm(rig.all, &request, &e, &err), -EINVAL);
	cr_expect_lt(strlen(err_text(err)), 200);
	cr_expect_lt(experiments_find(rig.all, "ex-1", &e, NULL), 0);
	name[1000] = '\0';
	cr_assert_eq(experiment_arm(rig.all, &request, &e, NULL), -ENOENT);
	cr_expect_geq(experiments_find(rig.all, "ex-1", &e, NULL), 0, "a refusal is shown");
	name[0] = 'y';
	cr_assert_eq(experiment_arm(rig.all, &request, &e, NULL), -EEXIST);
}

Test(experiment, an_id_serves_once)
{
	struct experiment *e = rig_arm("ex-1", "fake-count"), *again = NULL;
	struct arm_request request = rig_request("ex-1", "fake-count");
	_cleanup_err_ struct err *err = NULL;
	char id[32];

	cr_assert_eq(experiment_revert(e, END_REQUESTED, NULL), 0);
	cr_expect_eq(experiment_arm(rig.all, &request, &again, &err), -EEXIST);
	cr_expect(strstr(err_text(err), "has ended (requested)"), "%s", err_text(err));
	/* Long after the list has forgotten it. */
	for (unsigned i = 0; i < 300; i++) {
		snprintf(id, sizeof(id), "later-%u", i);
		experiment_revert(rig_arm(id, "fake-count"), END_REQUESTED, NULL);
	}
	fake.calls[0] = '\0';
	cr_expect_eq(experiment_arm(rig.all, &request, &again, &err), -EEXIST);
	cr_expect_eq(experiments_find(rig.all, "ex-1", &again, &err), -ESTALE);
	cr_expect_eq(experiments_find(rig.all, "ex-2", &again, &err), -ENOENT);
	cr_expect_str_eq(fake.calls, "");
}

Test(experiment, the_kill_switch)
{
	struct experiment *active = rig_arm("ex-1", "fake-count"), *armed, *e = NULL;
	struct arm_request request = rig_request("ex-3", "fake-count");
	_cleanup_err_ struct err *err = NULL;
	struct experiment_info *info;
	const char *reason;

	cr_assert_eq(experiment_fire(active, NULL), 0);
	armed = rig_arm("ex-2", "fake-count");
	experiments_lock(rig.all, "sale today");
	info = experiment_describe(active);
	cr_expect_eq(info->state, EXPERIMENT_CLEAN);
	cr_expect_eq(info->end_reason, END_STOPPED);
	experiment_info_free(info);
	cr_expect_not(experiments_accepting(rig.all, &reason));
	cr_expect_str_eq(reason, "sale today");
	cr_expect(experiments_is_locked(rig.all));
	cr_expect_eq(experiment_arm(rig.all, &request, &e, &err), -EBUSY);
	cr_expect(strstr(err_text(err), "sale today"));
	cr_expect_eq(experiment_fire(armed, NULL), -ESTALE);
	experiments_lock(rig.all, NULL);
	cr_expect(experiments_accepting(rig.all, &reason));
	cr_expect_null(reason);
	rig_arm("ex-4", "fake-count");
}

struct refusal {
	const char *why;
	int code;
	void (*spoil)(struct arm_request *r);
};

static void spoil_id(struct arm_request *r) { r->experiment = (char *)"../etc/passwd"; }
static void spoil_run(struct arm_request *r) { r->run = (char *)"Run 1"; }
static void spoil_duration(struct arm_request *r) { r->duration_ms = 0; }
static void spoil_long(struct arm_request *r) { r->duration_ms = UINT64_MAX; }
static void spoil_lease(struct arm_request *r) { r->lease_ms = 0; }
static void spoil_lease_long(struct arm_request *r) { r->lease_ms = 60001; }
static void spoil_fault(struct arm_request *r) { r->fault = (char *)"fake-unknown"; }
static void spoil_not_allowed(struct arm_request *r) { r->fault = (char *)"fake-gone"; }
static void spoil_instance(struct arm_request *r) { r->instance = (char *)"elsewhere/pg1"; }
static void spoil_cluster(struct arm_request *r) { r->instance = (char *)"prod/pg1"; }
static void spoil_pid(struct arm_request *r) { r->pid = rig.target + 1; }
static void spoil_start(struct arm_request *r)
{
	r->pid = rig.target;
	r->start_ticks = 1;
}
static void spoil_params(struct arm_request *r)
{
	r->params = cJSON_Parse("{\"no-such-parameter\": 1}");
}
static void spoil_network(struct arm_request *r)
{
	rig.host_network = true;
	r->fault = (char *)"net-fake";
}

Test(experiment, refuses_before_anything_is_touched)
{
	static const struct refusal refusals[] = {
		{"id", -EINVAL, spoil_id},
		{"run", -EINVAL, spoil_run},
		{"duration 0", -EINVAL, spoil_duration},
		{"duration too long", -EPERM, spoil_long},
		{"lease 0", -EINVAL, spoil_lease},
		{"lease too long", -EPERM, spoil_lease_long},
		{"unknown fault", -EINVAL, spoil_fault},
		{"fault that is not allowed", -EPERM, spoil_not_allowed},
		{"unknown instance", -ENOENT, spoil_instance},
		{"target that is not allowed", -EPERM, spoil_cluster},
		{"another pid", -ESTALE, spoil_pid},
		{"another start", -ESTALE, spoil_start},
		{"unknown parameter", -EINVAL, spoil_params},
		{"host network", -EPERM, spoil_network},
	};
	char *faults[] = {(char *)"fake-count", (char *)"net-fake", (char *)"fake-unknown", NULL};
	char *targets[] = {(char *)"lab/*", NULL};

	rig.limits.faults_allowed = faults;
	rig.limits.clusters_allowed = targets;
	for (size_t k = 0; k < ELEMENTS(refusals); k++) {
		char id[32];
		struct arm_request r;
		struct experiment *e = NULL;
		_cleanup_err_ struct err *err = NULL, *again = NULL;

		snprintf(id, sizeof(id), "ex-%zu", k);
		r = rig_request(id, "fake-count");
		refusals[k].spoil(&r);
		cr_expect_eq(experiment_arm(rig.all, &r, &e, &err), refusals[k].code, "%s: %s",
			refusals[k].why, err_text(err));
		cr_expect_null(e);
		cr_expect_not_null(err, "%s: no words", refusals[k].why);
		cr_expect_eq(experiment_arm(rig.all, &r, &e, &again), refusals[k].code,
			"%s: another answer the second time", refusals[k].why);
		cr_expect_str_eq(err_text(err), err_text(again));
		cJSON_Delete(r.params);
	}
	cr_assert_str_eq(fake.calls, "");
}

Test(experiment, limits_faults_at_once)
{
	struct arm_request r = rig_request("ex-3", "fake-count");
	struct experiment *e, *third = NULL;

	rig.limits.concurrent_max = 2;
	e = rig_arm("ex-1", "fake-count");
	rig_arm("ex-2", "fake-count");
	cr_assert_eq(experiment_arm(rig.all, &r, &third, NULL), -EBUSY);
	experiment_revert(e, END_REQUESTED, NULL);
	rig_arm("ex-4", "fake-count");
}

Test(experiment, limits_instances_of_a_cluster)
{
	struct arm_request r = rig_request("ex-9", "fake-count");
	struct experiment *e = NULL;

	rig.limits.instances_of_cluster_max = 1;
	rig_arm("ex-1", "fake-count");
	rig_arm("ex-2", "fake-count");		/* the same instance: two faults may overlap */
	r.instance = (char *)"lab/pg2";
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), -EBUSY);
	r.experiment = (char *)"ex-10";
	r.instance = (char *)"prod/pg1";
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), 0);
}

Test(experiment, limits_the_share_of_a_cluster)
{
	struct arm_request r = rig_request("ex-9", "fake-count");
	_cleanup_err_ struct err *err = NULL;
	struct experiment *e = NULL, *first;

	rig.limits.share_max_ppm = 500000;
	first = rig_arm("ex-1", "fake-count");
	rig_arm("ex-2", "fake-count");
	r.instance = (char *)"lab/pg2";
	cr_assert_eq(experiment_arm(rig.all, &r, &e, &err), -EBUSY);
	cr_assert_str_eq(err_text(err), "1 of 3 instances of cluster lab is under fault, and at most 1 may be "
		"(50%, by this agent's --max-share)");
	/* One at least, of a cluster of one. */
	r.experiment = (char *)"ex-10";
	r.instance = (char *)"prod/pg1";
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), 0);
	rig.limits.share_max_ppm = 670000;
	r.experiment = (char *)"ex-11";
	r.instance = (char *)"lab/pg2";
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), 0);
	experiment_revert(first, END_REQUESTED, NULL);
	r.experiment = (char *)"ex-12";
	r.instance = (char *)"lab/pg3";
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), -EBUSY);
	rig.limits.share_max_ppm = 0;
	r.experiment = (char *)"ex-13";
	r.instance = (char *)"prod/pg1";
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), -EBUSY);
}

Test(experiment, says_how_long_an_instance_may_be_busy)
{
	struct arm_request r = rig_request("ex-1", "fake-count");
	struct experiment *e = NULL;

	r.duration_ms = 20000;
	cr_assert_eq(experiments_busy_ms(rig.all, "lab/pg1"), 0);
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), 0);
	cr_expect_gt(experiments_busy_ms(rig.all, "lab/pg1"), 20000);
	cr_expect_leq(experiments_busy_ms(rig.all, "lab/pg1"), 30001);
	cr_expect_eq(experiments_busy_ms(rig.all, "lab/pg2"), 0);
	cr_assert_eq(experiment_fire(e, NULL), 0);
	cr_expect_leq(experiments_busy_ms(rig.all, "lab/pg1"), 20001);
	fake.fail_revert = EIO;
	fake.fail_times = 1;
	experiment_revert(e, END_REQUESTED, NULL);
	cr_expect_gt(experiments_busy_ms(rig.all, "lab/pg1"), 0);
	cr_assert_eq(experiment_revert(e, END_REQUESTED, NULL), 0);
	cr_expect_eq(experiments_busy_ms(rig.all, "lab/pg1"), 0);
}

static int too_late(const char *instance, uint64_t duration_ms, void *data, struct err **err)
{
	(void)data;
	cr_expect_str_eq(instance, "lab/pg1");
	cr_expect_eq(duration_ms, 10000);
	return err_set(err, EBUSY, "its claim ends before");
}

Test(experiment, is_not_fired_beyond_its_claim)
{
	_cleanup_err_ struct err *err = NULL;
	struct experiment *e;

	rig_close();
	rig.check_fire = too_late;
	rig_open();
	e = rig_arm("ex-1", "fake-count");
	cr_assert_eq(experiment_fire(e, &err), -EBUSY);
	cr_expect(strstr(err_text(err), "its claim ends before"), "%s", err_text(err));
	cr_assert_eq(strchr(fake.calls, 'f'), NULL);
}

Test(experiment, a_failed_arm_is_refused)
{
	struct arm_request r = rig_request("ex-1", "fake-count");
	struct experiment *e = NULL;

	fake.fail_arm = EIO;
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), -EIO);
	cr_assert_str_eq(fake.calls, "a");
	cr_assert_not(rig_has("ex-1.json"));
	cr_assert_str_eq(rig.news, "state:refused ");
}

Test(experiment, no_journal_no_fault)
{
	struct arm_request r = rig_request("ex-1", "fake-count");
	_cleanup_err_ struct err *err = NULL;
	struct experiment *e = NULL;

	rig_empty_folder();	/* nothing can be written in a folder that was removed */
	cr_assert_eq(experiment_arm(rig.all, &r, &e, &err), -ENOENT);
	cr_assert_not_null(strstr(err_text(err), "nothing is in effect"), "%s", err_text(err));
	cr_assert_str_eq(fake.calls, "ar");
}

Test(experiment, what_outlives_the_agent_is_placed_once_its_record_is_on_disk)
{
	struct experiment *e = rig_arm("ex-1", "fake-place");

	cr_assert_str_eq(fake.calls, "ap");
	cr_assert_eq(experiment_revert(e, END_REQUESTED, NULL), 0);
	cr_assert_str_eq(fake.calls, "aprvc");
}

Test(experiment, a_failed_placing_is_undone_and_refused)
{
	struct arm_request r = rig_request("ex-1", "fake-place");
	_cleanup_err_ struct err *err = NULL;
	struct experiment *e = NULL;

	fake.fail_place = EBUSY;
	cr_assert_eq(experiment_arm(rig.all, &r, &e, &err), -EBUSY);
	cr_assert_not_null(strstr(err_text(err), "placing does not work"), "%s", err_text(err));
	cr_assert_str_eq(fake.calls, "aprvc");
	cr_assert_not(rig_has("ex-1.json"));
	cr_assert_str_eq(rig.news, "state:refused ");
}

Test(experiment, a_failed_placing_that_cannot_be_undone_is_stuck)
{
	struct arm_request r = rig_request("ex-1", "fake-place");
	struct experiment_info *i;
	struct experiment *e = NULL;

	fake.fail_place = EIO;
	fake.fail_revert = EIO;
	fake.fail_times = 2;
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), -EIO);
	cr_assert_eq(experiments_find(rig.all, "ex-1", &e, NULL), 0);
	i = experiment_describe(e);
	cr_expect_eq(i->state, EXPERIMENT_STUCK);
	cr_expect_eq(i->end_reason, END_FAILED);
	experiment_info_free(i);
	cr_expect(rig_has("ex-1.json"));
	fake.fail_place = 0;
	cr_assert(rig_wait(e, EXPERIMENT_CLEAN));
	cr_expect_not(rig_has("ex-1.json"));
}

Test(experiment, a_failed_fire_is_undone)
{
	struct experiment *e = rig_arm("ex-1", "fake-count");
	_cleanup_err_ struct err *err = NULL;
	struct experiment_info *i;

	fake.fail_fire = ENODEV;
	cr_assert_eq(experiment_fire(e, &err), -ENODEV);
	cr_assert_str_eq(fake.calls, "aforvc");
	i = experiment_describe(e);
	cr_assert_eq(i->state, EXPERIMENT_CLEAN);
	cr_assert_eq(i->end_reason, END_FAILED);
	cr_assert_not_null(strstr(i->error, "firing does not work"));
	experiment_info_free(i);
	cr_assert_eq(experiment_fire(e, NULL), -ESTALE);
}

Test(experiment, is_not_fired_on_a_target_that_is_gone)
{
	struct experiment *e = rig_arm("ex-1", "fake-count");
	struct experiment_info *i;

	rig_kill_target();
	cr_assert_eq(experiment_fire(e, NULL), -ESTALE);
	cr_assert_str_eq(fake.calls, "arvc");
	i = experiment_describe(e);
	cr_assert_eq(i->end_reason, END_TARGET_GONE);
	experiment_info_free(i);
}

Test(experiment, ends_when_the_target_of_an_armed_one_goes)
{
	struct experiment *e = rig_arm("ex-1", "fake-count");

	rig_kill_target();
	cr_assert(rig_wait(e, EXPERIMENT_CLEAN));
	cr_assert_str_eq(fake.calls, "arvc");
}

Test(experiment, goes_on_when_the_postmaster_of_an_active_one_ends)
{
	struct experiment *e = rig_arm("ex-1", "fake-count");

	experiment_fire(e, NULL);
	rig_kill_target();
	for (unsigned k = 0; k < 5; k++)
		sd_event_run(rig.node.event, 10000);
	cr_assert_not_null(strstr(rig.news, "state:active instance "));
	cr_assert(rig_wait(e, EXPERIMENT_ACTIVE));
}

Test(experiment, ends_when_its_driver_has_nothing_left)
{
	struct experiment *e = rig_arm("ex-1", "fake-gone");
	struct experiment_info *i;

	experiment_fire(e, NULL);
	rig_kill_target();
	sd_event_run(rig.node.event, 100000);
	cr_assert(rig_wait(e, EXPERIMENT_ACTIVE));
	fake.gone = true;
	cr_assert(rig_wait(e, EXPERIMENT_CLEAN));
	i = experiment_describe(e);
	cr_assert_eq(i->end_reason, END_TARGET_GONE);
	experiment_info_free(i);
}

static void ends_by_itself(uint64_t duration_ms, uint64_t lease_ms, bool fire, enum end_reason reason)
{
	struct arm_request r = rig_request("ex-1", "fake-count");
	struct experiment_info *i;
	struct experiment *e;
	uint64_t start = now_ns();

	r.duration_ms = duration_ms;
	r.lease_ms = lease_ms;
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), 0);
	if (fire)
		cr_assert_eq(experiment_fire(e, NULL), 0);
	cr_assert(rig_wait(e, EXPERIMENT_CLEAN));
	cr_assert_geq(now_ns() - start, 100 * NS_PER_MS);
	i = experiment_describe(e);
	cr_assert_eq(i->end_reason, reason);
	experiment_info_free(i);
	cr_assert_not(rig_has("ex-1.json"));
}

Test(experiment, ends_with_its_duration) { ends_by_itself(100, 10000, true, END_DURATION); }
Test(experiment, ends_with_its_lease) { ends_by_itself(10000, 100, true, END_LEASE); }
Test(experiment, an_armed_one_ends_with_its_lease) { ends_by_itself(10000, 100, false, END_LEASE); }

Test(experiment, is_not_fired_after_its_lease)
{
	struct arm_request r = rig_request("ex-1", "fake-count");
	struct experiment *e;

	r.lease_ms = 1;
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), 0);
	usleep(5000);
	cr_assert_eq(experiment_fire(e, NULL), -ESTALE);
	cr_assert_str_eq(fake.calls, "arvc");
}

Test(experiment, a_renewed_lease_lasts)
{
	struct arm_request r = rig_request("ex-1", "fake-count");
	struct experiment *e;
	uint64_t end;

	r.lease_ms = 300;
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), 0);
	cr_assert_eq(experiment_fire(e, NULL), 0);
	cr_assert_eq(experiment_renew(e, 0, NULL), -EINVAL);
	cr_assert_eq(experiment_renew(e, 60001, NULL), -EPERM);
	cr_assert_eq(experiment_renew(e, 60000, NULL), 0);
	for (end = now_ns() + 400 * NS_PER_MS; now_ns() < end;)
		sd_event_run(rig.node.event, 20000);
	cr_assert(rig_wait(e, EXPERIMENT_ACTIVE));
	experiment_revert(e, END_REQUESTED, NULL);
	cr_assert_eq(experiment_renew(e, 1000, NULL), -ESTALE);
}

static void gets_unstuck(int *failure)
{
	struct experiment *e = rig_arm("ex-1", "fake-count"), *other = NULL;
	struct arm_request r = rig_request("ex-2", "fake-count");
	const char *reason;
	unsigned told;

	experiment_fire(e, NULL);
	*failure = EIO;
	fake.fail_times = 3;
	cr_assert_eq(experiment_revert(e, END_REQUESTED, NULL), -EIO);
	cr_assert(rig_wait(e, EXPERIMENT_STUCK));
	cr_assert(rig_has("ex-1.json"));
	cr_assert_not(experiments_accepting(rig.all, &reason));
	cr_assert_not_null(strstr(reason, "ex-1"));
	cr_assert_eq(experiment_arm(rig.all, &r, &other, NULL), -EBUSY);
	told = rig.n_news;
	cr_assert(rig_wait(e, EXPERIMENT_CLEAN));
	cr_assert_eq(rig.n_news, told + 1, "the tries between are no news: %s", rig.news);
	cr_assert(experiments_accepting(rig.all, &reason));
	cr_assert_not(rig_has("ex-1.json"));
	cr_assert_eq(strstr(fake.calls, "r"), strrchr(fake.calls, 'r'), "released once: %s",
		fake.calls);
}

Test(experiment, a_failed_revert_is_stuck_and_tried_again) { gets_unstuck(&fake.fail_revert); }
Test(experiment, a_failed_verify_is_stuck_and_tried_again) { gets_unstuck(&fake.fail_verify); }

Test(experiment, knows_the_states_that_may_follow)
{
	for (int to = 0; to < EXPERIMENT_STATE_MAX; to++) {
		cr_assert_not(experiment_state_may_follow(EXPERIMENT_CLEAN, to));
		cr_assert_not(experiment_state_may_follow(EXPERIMENT_REFUSED, to));
		cr_assert_not(experiment_state_may_follow(to, EXPERIMENT_NEW));
		cr_assert_eq(experiment_state_may_follow(to, EXPERIMENT_CLEAN),
			to == EXPERIMENT_VERIFYING);
		cr_assert_eq(experiment_state_may_follow(to, EXPERIMENT_ACTIVE),
			to == EXPERIMENT_FIRING);
	}
}

Test(experiment, forgets_the_oldest_that_ended)
{
	struct experiment **list, *e;
	size_t count;
	char id[32];

	rig_arm("ex-live", "fake-count");
	for (unsigned k = 0; k < EXPERIMENT_ENDED_KEPT + 10; k++) {
		snprintf(id, sizeof(id), "ex-%u", k);
		experiment_revert(rig_arm(id, "fake-count"), END_REQUESTED, NULL);
	}
	cr_assert_eq(experiments_list(rig.all, &list, &count), 0);
	cr_assert_leq(count, EXPERIMENT_ENDED_KEPT + 2);
	free(list);
	cr_assert_eq(experiments_find(rig.all, "ex-live", &e, NULL), 0);
	cr_assert_eq(experiments_find(rig.all, "ex-0", &e, NULL), -ESTALE);
}

Test(experiment, the_end_of_all_ends_all_and_takes_no_more)
{
	struct arm_request r = rig_request("ex-3", "fake-count");
	struct experiment *e;
	size_t left = 9;

	experiment_fire(rig_arm("ex-1", "fake-count"), NULL);
	rig_arm("ex-2", "fake-count");
	cr_assert_eq(experiments_revert_all(rig.all, END_SHUTDOWN, &left, NULL), 0);
	cr_assert_eq(left, 0);
	cr_assert_not(rig_has("ex-1.json"));
	cr_assert_not(rig_has("ex-2.json"));
	cr_assert_eq(experiment_arm(rig.all, &r, &e, NULL), -EBUSY);
}
