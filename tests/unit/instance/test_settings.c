#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "instance/settings.h"

static void line(const char *text, const char *name, const char *value)
{
	struct setting_line l = {0};
	int r = setting_line_parse(text, &l);

	cr_expect_eq(r, name != NULL, "%s", text);
	if (r > 0 && name) {
		cr_expect_str_eq(l.name, name);
		cr_expect_str_eq(l.value, value, "%s gave %s", text, l.value);
	}
	setting_line_done(&l);
}

Test(settings, lines)
{
	line("ssl = on", "ssl", "on");
	line("  ssl on # yes", "ssl", "on");
	line("ssl_cert_file='/etc/a b.crt'\t#x", "ssl_cert_file", "/etc/a b.crt");
	line("a.b = 'it''s \\'so\\' \\n\\101'", "a.b", "it's 'so' \nA");
	line("port = 5433\r", "port", "5433");
	line("x = ''", "x", "");
	line("", NULL, NULL);
	line("# ssl = on", NULL, NULL);
	line("ssl =", NULL, NULL);
	line("ssl = 'on", NULL, NULL);
	line("ssl = on off", NULL, NULL);
	line("= on", NULL, NULL);
}

Test(settings, bools)
{
	cr_expect_eq(setting_bool("on"), 1);
	cr_expect_eq(setting_bool("TRUE"), 1);
	cr_expect_eq(setting_bool("y"), 1);
	cr_expect_eq(setting_bool("1"), 1);
	cr_expect_eq(setting_bool("of"), 0);
	cr_expect_eq(setting_bool("f"), 0);
	cr_expect_eq(setting_bool("o"), -EINVAL);
	cr_expect_eq(setting_bool(""), -EINVAL);
	cr_expect_eq(setting_bool("onn"), -EINVAL);
}

static char folder[] = "/tmp/pj-settings-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
}

static void begin(void)
{
	char path[128];

	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/conf.d", folder);
	mkdir(path, 0700);
}

static void end(void)
{
	char command[160];

	snprintf(command, sizeof(command), "rm -r %s", folder);
	cr_expect_eq(system(command), 0);
}

TestSuite(files, .init = begin, .fini = end);

/* Of this very process, whose command line says nothing of settings. */
static int read_all(struct setting *list, size_t count)
{
	struct instance_info i = {.name = "test", .pid = getpid(), .pgdata = folder};

	return settings_read(&i, list, count, NULL);
}

Test(files, the_last_counts_and_auto_conf_comes_last)
{
	struct setting s[] = {{.name = "ssl"}, {.name = "ssl_cert_file"}, {.name = "ssl_ca_file"},
		{.name = "cluster_name"}, {.name = "port"}};

	put("postgresql.conf", "ssl = off\nSSL_CERT_FILE = 'a'\ninclude 'base.conf'\nssl = on\n"
			       "include_if_exists 'none.conf'\ninclude_dir 'conf.d'\n");
	put("base.conf", "ssl_ca_file = ca\nssl = off\n");
	put("conf.d/2.conf", "cluster_name = two\n");
	put("conf.d/1.conf", "cluster_name = one\n");
	put("conf.d/.3.conf", "cluster_name = hidden\n");
	put("postgresql.auto.conf", "ssl_cert_file = 'b'\n");
	cr_assert_eq(read_all(s, 5), 0);
	cr_expect_str_eq(s[0].value, "on");
	cr_expect_str_eq(s[1].value, "b");
	cr_expect_str_eq(s[2].value, "ca");
	cr_expect_str_eq(s[3].value, "two");
	cr_expect_null(s[4].value);
	settings_done(s, 5);
}

Test(files, bad_ones)
{
	struct setting s = {.name = "ssl"};

	cr_expect_eq(read_all(&s, 1), -ENOENT, "no postgresql.conf");
	put("postgresql.conf", "include 'postgresql.conf'\n");
	cr_expect_eq(read_all(&s, 1), -EINVAL, "a loop");
	put("postgresql.conf", "include '/dev/zero'\n");
	cr_expect_eq(read_all(&s, 1), -EINVAL, "no file");
	cr_expect_null(s.value);
}

static void word(const char *text, const char *name, const char *value)
{
	char *found = conninfo_find(text, name);

	if (value) {
		cr_assert_not_null(found, "%s", text);
		cr_expect_str_eq(found, value);
	} else {
		cr_expect_null(found, "%s", text);
	}
	free(found);
}

Test(conninfo, both_forms)
{
	word("host=a sslcert=/x/y.crt user=z", "sslcert", "/x/y.crt");
	word("sslcert = '/x y\\'s' host=a", "sslcert", "/x y's");
	word("sslcert=a sslcert=b", "sslcert", "b");
	word("xsslcert=a", "sslcert", NULL);
	word("password='sslcert=no'", "sslcert", NULL);
	word("sslcert", "sslcert", NULL);
	word("", "sslcert", NULL);
	word("postgresql://u:p@h:1/db?sslmode=verify-ca&sslcert=%2Fx%20y", "sslcert", "/x y");
	word("postgres://h/?xsslcert=a", "sslcert", NULL);
	word("postgres://h", "sslcert", NULL);
}
