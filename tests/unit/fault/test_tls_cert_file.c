/* Which file a server, its CA and a standby show their certificates from. */
#include "postmaster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/wire.h"
#include "fault/tls_cert_file.h"

static char folder[] = "/tmp/pj-tlsfile-XXXXXX";
static struct postmaster postmaster;
static struct instance_info instance = {.name = (char *)"lab/pg1", .pgdata = folder, .version = (char *)"16.4"};

static void set(const char *settings)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/postgresql.conf", folder);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	fputs(settings, f);
	fclose(f);
}

static void begin(char *const *environment)
{
	cr_assert_not_null(mkdtemp(folder));
	postmaster_start(&postmaster, (const char *const[]){NULL}, -1, environment);
	instance.pid = postmaster.id.pid;
}

static void end(void)
{
	char path[64];

	postmaster_end(&postmaster);
	snprintf(path, sizeof(path), "%s/postgresql.conf", folder);
	unlink(path);
	cr_expect_eq(rmdir(folder), 0);
}

static void is(const char *settings, enum tls_file which, const char *path)
{
	_cleanup_free_ char *found = NULL, *wanted = NULL;
	_cleanup_err_ struct err *err = NULL;

	set(settings);
	cr_assert_eq(tls_file_find(&instance, which, &found, &err), 0, "%s: %s", settings, err_text(err));
	cr_assert_gt(asprintf(&wanted, "%s%s%s", *path == '/' ? "" : folder, *path == '/' ? "" : "/", path), 0);
	cr_expect_str_eq(found, wanted, "%s: %s", settings, found);
}

static void is_none(const char *settings, enum tls_file which, const char *words)
{
	_cleanup_err_ struct err *err = NULL;
	char *found = NULL;

	set(settings);
	cr_expect_eq(tls_file_find(&instance, which, &found, &err), -EINVAL, "%s", settings);
	cr_expect(strstr(err_text(err), words) && strstr(err_text(err), "lab/pg1"), "%s", err_text(err));
	cr_expect_null(found);
}

Test(tls_cert_file, of_the_server)
{
	char *path = NULL;

	begin((char *[]){NULL});
	is("ssl = on\n", TLS_FILE_SERVER, "server.crt");
	is("ssl = on\nssl_cert_file = ''\n", TLS_FILE_SERVER, "server.crt");
	is("ssl = on\nssl_cert_file = 'tls/a.crt'\n", TLS_FILE_SERVER, "tls/a.crt");
	is("ssl = on\nssl_cert_file = '/tls/a.crt'\n", TLS_FILE_SERVER, "/tls/a.crt");
	is("ssl = on\nssl_ca_file = 'ca.crt'\n", TLS_FILE_CA, "ca.crt");
	is_none("ssl = on\n", TLS_FILE_CA, "ssl_ca_file is not set");
	is_none("ssl = on\nssl_ca_file = ''\n", TLS_FILE_CA, "ssl_ca_file is not set");
	for (enum tls_file which = TLS_FILE_SERVER; which <= TLS_FILE_CA; which++) {
		is_none("", which, "ssl is off");
		is_none("ssl = off\nssl_ca_file = 'x'\n", which, "ssl is off");
		is_none("ssl = perhaps\n", which, "ssl is off");
	}
	unlink(strcat(strcpy((char[64]){0}, folder), "/postgresql.conf"));
	for (enum tls_file which = TLS_FILE_SERVER; which <= TLS_FILE_CLIENT; which++)
		cr_expect_eq(tls_file_find(&instance, which, &path, NULL), -ENOENT, "no settings");
	set("");
	end();
}

#define FOLLOWS "primary_conninfo = 'host=pg2 user=r"

Test(tls_cert_file, of_a_standby_by_its_settings)
{
	begin((char *[]){(char *)"HOME=/home/pg", (char *)"PGSSLCERT=", NULL});
	is_none("", TLS_FILE_CLIENT, "primary_conninfo is not set");
	is_none("primary_conninfo = ''\n", TLS_FILE_CLIENT, "primary_conninfo is not set");
	is(FOLLOWS " sslcert=/c.crt'\n", TLS_FILE_CLIENT, "/c.crt");
	is(FOLLOWS " sslcert=c.crt'\n", TLS_FILE_CLIENT, "c.crt");
	/* libpq's own default, of which HOME decides since version 15 alone. */
	is(FOLLOWS "'\n", TLS_FILE_CLIENT, "/home/pg/.postgresql/postgresql.crt");
	instance.version = (char *)"14.11";
	is(FOLLOWS "'\n", TLS_FILE_CLIENT, geteuid() ? "/home/pg/.postgresql/postgresql.crt" : "/root/.postgresql/postgresql.crt");
	end();
}

Test(tls_cert_file, of_a_standby_by_its_environment)
{
	begin((char *[]){(char *)"PGSSLCERTX=/x", (char *)"PGSSLCERT=of/environment.crt", NULL});
	is(FOLLOWS "'\n", TLS_FILE_CLIENT, "of/environment.crt");
	is(FOLLOWS " sslcert=c.crt'\n", TLS_FILE_CLIENT, "c.crt");
	end();
}

Test(tls_cert_file, of_a_user_without_a_home)
{
	begin((char *[]){NULL});
	instance.version = NULL;
	/* Its process is gone: no environment, no user. */
	postmaster_end(&postmaster);
	set(FOLLOWS "'\n");
	cr_expect_lt(tls_file_find(&instance, TLS_FILE_CLIENT, &(char *){NULL}, NULL), 0);
	end();
}
