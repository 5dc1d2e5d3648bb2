#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "instance/kubernetes.h"

#define UID "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
#define UID_ "0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9"
#define STATIC "0123456789abcdef0123456789abcdef"
#define ID "c0ffee00" "00000000" "11111111" "22222222" "33333333" "44444444" "55555555" "66666666"
#define ID2 "beef0000" "00000000" "11111111" "22222222" "33333333" "44444444" "55555555" "66666666"

static const struct {
	const char *cgroup, *uid;
} cases[] = {
	{"/kubepods/burstable/pod" UID "/c0ffee", UID},
	{"/kubepods/pod" UID "/c0ffee", UID},
	{"/lab/node1/kubepods/besteffort/pod" UID "/c0ffee", UID},
	{"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_
	 ".slice/cri-containerd-c0ffee.scope", UID},
	{"/kubepods.slice/kubepods-pod" UID_ ".slice/crio-c0ffee.scope/container", UID},
	{"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" UID_ ".slice/x.scope", UID},
	{"/kubepods/burstable/pod" STATIC "/c0ffee", STATIC},
	{"/kubepods/burstable/pod" UID, UID},
	{"/system.slice/postgresql.service", NULL},
	{"/libpod_parent/pod" UID, NULL},
	{"/kubepods/burstable/pod0a1b2c3d-4e5f/c0ffee", NULL},
	{"/kubepods/burstable/pod" UID "x/c0ffee", NULL},
	{"/kubepods", NULL},
	{"/kubepods/", NULL},
	{"/", NULL},
	/* v1 controllers have the same paths; these are other kubelets', runtimes' and namespaces' ways. */
	{"/kubelet/kubepods/pod" UID "/" ID, UID},
	{"/docker/" ID "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
	 "kubelet-kubepods-burstable-pod" UID_ ".slice/cri-containerd-" ID2 ".scope", UID},
	{"/system.slice/containerd.service/kubepods-burstable-pod" UID_ ".slice:cri-containerd:" ID, UID},
	{"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" UID_ ".slice/docker-" ID ".scope", UID},
	{"/kubepods.slice/kubepods-pod" STATIC ".slice/crio-" ID ".scope", STATIC},
	{"/../../pod" UID "/" ID, UID},
	{"/../../../besteffort/pod" UID "/" ID, UID},
	{"/../../kubepods-burstable-pod" UID_ ".slice/cri-containerd-" ID ".scope", UID},
	{"/../" ID, NULL},
};

static const struct {
	const char *cgroup, *id;
} containers[] = {
	{"/kubepods/burstable/pod" UID "/" ID, ID},
	{"/kubepods/pod" STATIC "/" ID, ID},
	{"/../../pod" UID "/" ID, ID},
	{"/kubepods.slice/kubepods-pod" UID_ ".slice/cri-containerd-" ID ".scope", ID},
	{"/kubepods.slice/kubepods-pod" UID_ ".slice/crio-" ID ".scope/container", ID},
	{"/kubepods.slice/kubepods-pod" UID_ ".slice/docker-" ID ".scope", ID},
	{"/system.slice/containerd.service/kubepods-burstable-pod" UID_ ".slice:cri-containerd:" ID, ID},
	{"/docker/" ID2 "/kubelet/kubepods/pod" UID "/" ID, ID},
	{"/kubepods/burstable/pod" UID "/" ID "/init.scope", ID},
	{"/kubepods/burstable/pod" UID "/" ID "0", NULL},
	{"/kubepods/burstable/pod" UID, NULL},
	{"/kubepods/burstable/pod" UID "/c0ffee", NULL},
	{"/", NULL},
	{"", NULL},
};

Test(kubernetes, pod_uids)
{
	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		char uid[POD_UID_MAX] = "";
		bool found = kubernetes_pod_uid(cases[i].cgroup, uid);

		cr_expect_eq(found, cases[i].uid != NULL, "%s", cases[i].cgroup);
		cr_expect_str_eq(uid, cases[i].uid ? cases[i].uid : "", "%s", cases[i].cgroup);
	}
}

static void folder(const char *root, const char *name, bool make)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	cr_assert_eq(make ? mkdir(path, 0700) : rmdir(path), 0, "%s", path);
}

Test(kubernetes, pod_names)
{
	static const char *const names[] = {"db_pg-0_" UID, "db_pg-1_" STATIC, "_x_" UID, "stray", "a_b"};
	char root[] = "/tmp/pj-procs-pods-XXXXXX";
	_cleanup_free_ char *space = NULL, *pod = NULL;
	_cleanup_err_ struct err *err = NULL;
	const char *roots[] = {"/nonexistent", NULL, NULL};

	cr_assert_not_null(mkdtemp(root));
	roots[1] = root;
	for (size_t i = 0; i < ELEMENTS(names); i++)
		folder(root, names[i], true);
	cr_expect_eq(kubernetes_pod_name(UID, roots, &space, &pod, NULL), 0);
	cr_expect_str_eq(space, "db");
	cr_expect_str_eq(pod, "pg-0");
	free(steal_ptr(space));
	free(steal_ptr(pod));
	cr_expect_eq(kubernetes_pod_name("00000000000000000000000000000000", roots, &space, &pod, &err),
		-ENOENT);
	cr_expect(strstr(err_text(err), "/var/log/pods"));
	cr_expect_null(space);
	for (size_t i = 0; i < ELEMENTS(names); i++)
		folder(root, names[i], false);
	rmdir(root);
}

Test(kubernetes, container_ids)
{
	for (size_t i = 0; i < ELEMENTS(containers); i++) {
		char id[CONTAINER_ID_MAX] = "";
		bool found = kubernetes_container_id(containers[i].cgroup, id);

		cr_expect_eq(found, containers[i].id != NULL, "%s", containers[i].cgroup);
		cr_expect_str_eq(id, containers[i].id ? containers[i].id : "", "%s", containers[i].cgroup);
	}
}

#define POD "db_pg-0_" UID

/* A node's /var/log in a folder of its own. */
static char root[] = "/tmp/pj-procs-logs-XXXXXX";

static void run(const char *command)
{
	cr_assert_eq(system(command), 0, "%s", command);
}

static void logs_up(void)
{
	cr_assert_not_null(mkdtemp(root));
	folder(root, "pods", true);
	folder(root, "pods/" POD, true);
	folder(root, "pods/" POD "/init", true);
	folder(root, "pods/" POD "/postgres", true);
	folder(root, "containers", true);
}

static void logs_down(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", root);
	run(command);
}

static char *container_name(const char *id)
{
	const char *roots[] = {"/nonexistent", root, NULL};
	char *name = NULL;
	int r = kubernetes_container_name("db", "pg-0", UID, id, roots, &name, NULL);

	cr_expect_eq(r, name ? 0 : -ENOENT);
	return name;
}

static void link_to(const char *target, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	cr_assert_eq(symlink(target, path), 0, "%s", path);
}

TestSuite(container, .init = logs_up, .fini = logs_down);

Test(container, by_the_link_of_its_id)
{
	_cleanup_free_ char *one = NULL, *two = NULL;

	link_to("x", "containers/pg-0_db_postgres-" ID ".log");
	link_to("x", "containers/pg-0_db_metrics-exporter-" ID2 ".log");
	link_to("x", "containers/pg-0_other_wrong-" ID ".log");
	link_to("x", "containers/pg-0_db_-" ID ".log");
	one = container_name(ID);
	two = container_name(ID2);
	cr_expect_str_eq(one, "postgres");
	cr_expect_str_eq(two, "metrics-exporter");
}

Test(container, by_its_log)
{
	_cleanup_free_ char *name = NULL;

	link_to("/var/lib/docker/containers/" ID2 "/" ID2 "-json.log", "pods/" POD "/init/0.log");
	link_to("/var/lib/docker/containers/" ID "/" ID "-json.log", "pods/" POD "/postgres/0.log");
	name = container_name(ID);
	cr_expect_str_eq(name, "postgres");
}

Test(container, alone_or_unknown)
{
	_cleanup_free_ char *none = NULL, *only = NULL;

	/* Two, and nothing tells which. */
	none = container_name(ID);
	cr_expect_null(none);
	folder(root, "pods/" POD "/init", false);
	only = container_name(ID);
	cr_expect_str_eq(only, "postgres");
}
