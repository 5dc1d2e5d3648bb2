/* The lock of a cluster in Kubernetes, against a server that keeps one Lease. */
#include "unit/kube/server.h"

#include "run/cluster_lock.h"
#include "run/run.h"

/* What the server has; empty: nothing. The test's thread reads it too, when the server is idle. */
static char lease[2048];
static unsigned version, renewals, deletions;
static bool refuse, renews_by_itself, is_faster;

static void give(int fd, const char *status)
{
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_free_ char *text = NULL;
	cJSON *metadata;
	char number[16];

	cr_assert_eq(json_parse(lease, strlen(lease), &json, NULL), 0, "%s", lease);
	metadata = cJSON_GetObjectItemCaseSensitive(json, "metadata");
	snprintf(number, sizeof(number), "%u", version);
	cJSON_DeleteItemFromObjectCaseSensitive(metadata, "resourceVersion");
	json_add_string(metadata, "resourceVersion", number);
	cJSON_DeleteItemFromObjectCaseSensitive(metadata, "uid");
	json_add_string(metadata, "uid", "u1");
	text = json_print(json);
	answer(fd, status, text);
}

static void take(const char *request)
{
	snprintf(lease, sizeof(lease), "%s", strstr(request, "\r\n\r\n") + 4);
	version++;
}

static void put(int fd, const char *request)
{
	_cleanup_json_ cJSON *json = NULL;
	const char *body = strstr(request, "\r\n\r\n") + 4;
	char number[16];

	cr_assert_eq(json_parse(body, strlen(body), &json, NULL), 0);
	snprintf(number, sizeof(number), "%u", version);
	if (!*lease) {
		answer(fd, "404 Not Found", "{\"message\":\"not found\"}");
	} else if (is_faster || strcmp(kube_text(json, "metadata.resourceVersion"), number) != 0) {
		if (is_faster)
			lease[0] = 0;
		is_faster = false;
		answer(fd, "409 Conflict", "{\"message\":\"the object has been modified\"}");
	} else {
		take(request);
		renewals++;
		give(fd, "200 OK");
	}
}

static void remove_lease(int fd, const char *request)
{
	char wanted[64];

	snprintf(wanted, sizeof(wanted), "\"uid\":\"u1\",\"resourceVersion\":\"%u\"", version);
	if (!strstr(request, wanted)) {
		answer(fd, "409 Conflict", "{\"message\":\"the precondition does not hold\"}");
		return;
	}
	deletions++;
	lease[0] = 0;
	answer(fd, "200 OK", "{}");
}

static void serve_lease(int fd, unsigned nth, const char *request)
{
	(void)nth;
	if (strstr(request, "/v1/experiments/")) {
		answer(fd, "200 OK", "{\"experiment\":\"run-1-1\",\"run\":\"run-1\",\"fault\":\"proc-kill\","
				     "\"instance\":\"c/pg1\",\"state\":\"clean\"}");
	} else if (refuse) {
		answer(fd, "403 Forbidden", "{\"message\":\"leases is forbidden\"}");
	} else if (strncmp(request, "POST", 4) == 0 && strstr(request, "resourceVersion")) {
		answer(fd, "400 Bad Request", "{\"message\":\"resourceVersion should not be set\"}");
	} else if (strncmp(request, "POST", 4) == 0 && !*lease) {
		take(request);
		give(fd, "201 Created");
	} else if (strncmp(request, "POST", 4) == 0) {
		answer(fd, "409 Conflict", "{\"message\":\"already exists\"}");
	} else if (strncmp(request, "PUT", 3) == 0) {
		put(fd, request);
	} else if (strncmp(request, "DELETE", 6) == 0) {
		remove_lease(fd, request);
	} else if (!*lease) {
		answer(fd, "404 Not Found", "{\"message\":\"not found\"}");
	} else {
		version += renews_by_itself;
		give(fd, "200 OK");
	}
}

static struct session session;
static char lost_why[256];

static void on_lost(const char *why, void *data)
{
	cr_assert_eq(data, &session);
	snprintf(lost_why, sizeof(lost_why), "%s", why);
}

static void set_up(void)
{
	server_set_up();
	server_serve(serve_lease);
	session = (struct session){.event = event, .http = client, .kube = kube,
		.agents_namespace = (char *)"pgjolt"};
}

TestSuite(cluster_lock, .init = set_up, .fini = server_tear_down, .timeout = 60);

static int take_lock(struct cluster_lock **ret, struct err **err)
{
	return cluster_lock_take(&session, "shop/orders", "run-1", on_lost, &session, ret, err);
}

Test(cluster_lock, held_and_given_back)
{
	_cleanup_err_ struct err *err = NULL;
	struct cluster_lock *l = NULL;

	cr_assert_eq(take_lock(&l, &err), 0, "%s", err_text(err));
	cr_assert(strstr(lease, "\"pgjolt-run-shop.orders\""), "%s", lease);
	cr_assert(strstr(lease, " run-1\""), "%s", lease);
	LOOP_UNTIL(renewals >= 2);
	cluster_lock_release(l);
	cr_assert_eq(deletions, 1);
	cr_assert_str_empty(lost_why);
}

Test(cluster_lock, another_lives)
{
	_cleanup_err_ struct err *err = NULL;
	struct cluster_lock *l = NULL;

	strcpy(lease, "{\"metadata\":{},\"spec\":{\"holderIdentity\":\"other run-9\",\"leaseDurationSeconds\":15}}");
	renews_by_itself = true;
	cr_assert_eq(take_lock(&l, &err), -EBUSY);
	cr_assert(strstr(err_text(err), "other run-9"), "%s", err_text(err));
	cr_assert_null(l);
}

Test(cluster_lock, another_died)
{
	_cleanup_err_ struct err *err = NULL;
	struct cluster_lock *l = NULL;

	strcpy(lease, "{\"metadata\":{},\"spec\":{\"holderIdentity\":\"other run-9\",\"leaseDurationSeconds\":1}}");
	cr_assert_eq(take_lock(&l, &err), 0, "%s", err_text(err));
	cr_assert(strstr(lease, " run-1\""), "%s", lease);
	cluster_lock_release(l);
}

/* It was stale when another run took it over, and went again before we could. */
Test(cluster_lock, another_is_faster_and_ends)
{
	_cleanup_err_ struct err *err = NULL;
	struct cluster_lock *l = NULL;

	strcpy(lease, "{\"metadata\":{},\"spec\":{\"holderIdentity\":\"other run-9\",\"leaseDurationSeconds\":1}}");
	is_faster = true;
	cr_assert_eq(take_lock(&l, &err), 0, "%s", err_text(err));
	cr_assert(strstr(lease, " run-1\""), "%s", lease);
	cluster_lock_release(l);
	cr_assert_eq(deletions, 1);
}

/* Another's, with our uid and a version of its own. */
static void take_over(void)
{
	strcpy(lease, "{\"metadata\":{},\"spec\":{\"holderIdentity\":\"other run-9\",\"leaseDurationSeconds\":15}}");
	version += 7;
}

Test(cluster_lock, a_renewal_whose_answer_is_lost)
{
	struct cluster_lock *l = NULL;
	unsigned before;

	cr_assert_eq(take_lock(&l, NULL), 0);
	/* The server has taken it; we know of the version before. */
	version++;
	before = renewals;
	LOOP_UNTIL(renewals > before || *lost_why);
	cr_assert_str_empty(lost_why);
	cluster_lock_release(l);
	cr_assert_eq(deletions, 1);
}

Test(cluster_lock, taken_over_without_our_notice)
{
	struct cluster_lock *l = NULL;

	cr_assert_eq(take_lock(&l, NULL), 0);
	take_over();
	cluster_lock_release(l);
	cr_assert_eq(deletions, 0);
	cr_assert(strstr(lease, "other run-9"), "%s", lease);
}

Test(cluster_lock, taken_over)
{
	struct cluster_lock *l = NULL;

	cr_assert_eq(take_lock(&l, NULL), 0);
	take_over();
	LOOP_UNTIL(*lost_why);
	cr_assert(strstr(lost_why, "taken the cluster over"), "%s", lost_why);
	/* It is another's: we leave it. */
	cluster_lock_release(l);
	cr_assert_eq(deletions, 0);
}

Test(cluster_lock, removed)
{
	struct cluster_lock *l = NULL;

	cr_assert_eq(take_lock(&l, NULL), 0);
	lease[0] = 0;
	LOOP_UNTIL(*lost_why);
	cr_assert(strstr(lost_why, "removed"), "%s", lost_why);
	cluster_lock_release(l);
}

Test(cluster_lock, not_for_us)
{
	_cleanup_err_ struct err *err = NULL;
	struct cluster_lock *l = NULL;

	refuse = true;
	cr_assert_eq(take_lock(&l, &err), -EPERM);
	cr_assert(strstr(err_text(err), "Lease pgjolt/pgjolt-run-shop.orders"), "%s", err_text(err));
	session.kube = NULL;
	cr_assert_eq(take_lock(&l, NULL), 0, "nothing to lock outside of Kubernetes");
	cr_assert_null(l);
	cluster_lock_release(l);
}

static unsigned told;

static int on_late(sd_event_source *s, void *data)
{
	(void)s;
	told++;
	run_abort(data, "late");
	return 0;
}

/* Who ran it has its record: what comes while the lock is given back finds none. */
Test(cluster_lock, nobody_tells_of_a_run_that_is_over)
{
	const struct agent_address address = {.url = server.url};
	struct run run = {.session = &session, .lock_fd = -1, .primary_at_fire = -1};
	struct run_experiment *e = calloc(1, sizeof(*e));
	struct agent_link *link = NULL;

	cr_assert_eq(agent_link_new(client, &address, &link, NULL), 0);
	session.links = &link;
	session.n_links = 1;
	cr_assert_eq(take_lock(&run.cluster_lock, NULL), 0);
	*e = (struct run_experiment){.id = strdup("run-1-1"), .link = link};
	run.experiments = malloc(sizeof(e));
	run.experiments[run.n_experiments++] = e;
	run_ask(&run, e);
	cr_assert_geq(sd_event_add_defer(event, &run.on_int, on_late, &run), 0);
	run_done(&run);
	cr_assert_eq(deletions, 1);
	cr_assert_eq(told, 0);
	agent_link_free(link);
}
