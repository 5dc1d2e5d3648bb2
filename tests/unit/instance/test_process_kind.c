#include <criterion/criterion.h>
#include <string.h>
#include "core/cleanup.h"
#include "instance/instance.h"
#include "instance/process_kind.h"

static const struct {
	const char *title, *cluster, *kind;
} cases[] = {
	{"postgres: checkpointer", NULL, "checkpointer"},
	{"postgres: checkpointer ", NULL, "checkpointer"},
	{"postgres: lab: checkpointer", "lab", "checkpointer"},
	{"postgres: lab: checkpointer", NULL, "checkpointer"},
	{"postgres: lab: checkpointer performing shutdown checkpoint", "lab", "checkpointer"},
	{"postgres: lab: walsender replicator 10.0.0.2(40112) streaming 0/3000148", "lab", "walsender"},
	{"postgres: walreceiver streaming 0/3000148", NULL, "walreceiver"},
	{"postgres: a: b: startup recovering 000000010000000000000003", NULL, "startup"},
	{"postgres: a b: walwriter", "a-b", "walwriter"},
	{"postgres: logical replication launcher", NULL, "logical replication launcher"},
	{"postgres: autovacuum worker app", NULL, "autovacuum worker"},
	{"postgres: archiver last was 000000010000000000000003", NULL, "archiver"},
	{"postgres: alice app 10.0.0.9(5000) idle", NULL, "backend"},
	{"postgres: lab: alice app [local] INSERT", "lab", "backend"},
	{"postgres: lab: alice app [local] INSERT", NULL, "backend"},
	{"postgres: checkpointer app [local] idle", NULL, "backend"},
	{"postgres: startup app 10.0.0.9(5000) idle", NULL, "backend"},
	{"postgres: checkpointers", NULL, "backend"},
	{"/usr/lib/postgresql/15/bin/postgres -D /data", NULL, "postmaster"},
	{"postgres -D /data --cluster_name=lab", NULL, "postmaster"},
	{"postmaster", NULL, "postmaster"},
	{"/opt/postgres-wrapper -D /data", NULL, NULL},
	{"sh -c cp pg_wal/1 /archive", NULL, NULL},
	{"postgres:", NULL, NULL},
	{"", NULL, NULL},
};

Test(process_kind, titles)
{
	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		size_t n = 0;
		const char *kind = instance_process_kind(cases[i].title, cases[i].cluster, &n);

		cr_expect((!kind && !cases[i].kind) ||
				  (kind && cases[i].kind && strcmp(kind, cases[i].kind) == 0),
			"\"%s\": %s, not %s", cases[i].title, kind, cases[i].kind);
		cr_expect_eq(n, kind ? strlen(kind) : 0);
	}
}

Test(process_kind, cluster_names)
{
	char *name = NULL;

	cr_assert(process_title_cluster("postgres: lab: checkpointer", &name));
	cr_expect_str_eq(name, "lab");
	free(name);
	cr_assert(process_title_cluster("postgres: a: b: walwriter", &name));
	cr_expect_str_eq(name, "a: b");
	free(name);
	name = NULL;
	cr_expect_not(process_title_cluster("postgres: walwriter", &name));
	cr_expect_not(process_title_cluster("postgres: lab: alice app [local] idle", &name));
	cr_expect_not(process_title_cluster("postgres: : walwriter", &name));
	cr_expect_not(process_title_cluster("sh", &name));
	cr_expect_null(name);
}

static bool matches(const char *title, const char *pattern)
{
	char *patterns[] = {(char *)pattern, NULL};

	return process_title_matches(title, "lab", patterns);
}

Test(process_kind, patterns)
{
	static const char session[] = "postgres: lab: alice app 10.0.0.9(5000) idle in transaction";

	cr_expect(matches(session, "backend"));
	cr_expect(matches(session, "alice"));
	cr_expect(matches(session, "alice app"));
	cr_expect(matches(session, "* idle in transaction"));
	cr_expect_not(matches(session, "ali"));
	cr_expect_not(matches(session, "idle"));
	cr_expect_not(matches(session, "bob"));
	cr_expect_not(matches("postgres: lab: checkpointer app [local] idle", "checkpointer"));
	cr_expect_not(matches("postgres: lab: backend app [local] idle", "walsender"));
	cr_expect(matches("postgres: lab: walsender r 10.0.0.2(1) streaming 0/1", "walsender"));
	cr_expect(matches("postgres: lab: walsender r 10.0.0.2(1) streaming 0/1", "walsender r"));
	cr_expect(matches("/bin/postgres -D /data", "postmaster"));
	cr_expect_not(matches("/bin/postgres -D /data", "*"));
	cr_expect(matches("postgres: lab: autovacuum launcher", "autovacuum"));
	cr_expect(matches("postgres: lab: autovacuum worker app", "autovacuum"));
	cr_expect(matches("postgres: lab: autovacuum worker app", "autovacuum worker"));
	cr_expect_not(matches("postgres: lab: autovacuum worker app", "autovacuum launcher"));
	cr_expect_not(matches("postgres: lab: autovacuum app [local] idle", "autovacuum"));
	cr_expect(matches("postgres: lab: background writer", "bgwriter"));
	cr_expect_not(matches("postgres: lab: bgwriter app [local] idle", "bgwriter"));
	cr_expect(matches("postgres: lab: logical replication launcher", "logical replication"));
	cr_expect(matches("postgres: lab: logical replication apply worker for subscription 16389",
		"logical replication"));
	cr_expect_not(matches("sh -c true", "*"));
}
