#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "instance/kubernetes.h"

#define UID "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
#define UID_ "0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9"
#define STATIC "0123456789abcdef0123456789abcdef"

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
