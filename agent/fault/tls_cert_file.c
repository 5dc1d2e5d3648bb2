#include "fault/tls_cert_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "instance/settings.h"
#include "kernel/proc.h"
#include "kernel/root.h"

#define ENVIRONMENT_MAX (64UL << 10)
#define PASSWD_MAX	(1UL << 20)
/* From this version on libpq asks HOME before the user database. */
#define HOME_FIRST	15

/* Relative to the data directory. */
static int in_data(const struct instance_info *i, const char *name, char **ret, struct err **err)
{
	int n = name[0] == '/' ? asprintf(ret, "%s", name) : asprintf(ret, "%s/%s", i->pgdata, name);

	return n < 0 ? err_errno(err, ENOMEM, "name a file") : 0;
}

static int find_of_server(const struct instance_info *i, bool ca, char **ret, struct err **err)
{
	struct setting s[] = {{.name = "ssl"}, {.name = ca ? "ssl_ca_file" : "ssl_cert_file"}};
	int r;

	r = settings_read(i, s, ELEMENTS(s), err);
	if (r < 0)
		return r;
	if (!s[0].value || setting_bool(s[0].value) != 1)
		r = err_set(err, EINVAL, "%s: ssl is off, so the server shows no certificate", i->name);
	else if (ca && (!s[1].value || !s[1].value[0]))
		r = err_set(err, EINVAL, "%s: ssl_ca_file is not set: the server checks no client "
					 "certificate", i->name);
	else
		r = in_data(i, s[1].value && s[1].value[0] ? s[1].value : "server.crt", ret, err);
	settings_done(s, ELEMENTS(s));
	return r;
}

/* A variable of the postmaster's environment; caller frees. */
static char *variable(pid_t pid, const char *name)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0, n = strlen(name);

	if (proc_read_file(pid, "environ", ENVIRONMENT_MAX, &text, &length, NULL) < 0)
		return NULL;
	for (const char *s = text; s < text + length; s += strlen(s) + 1)
		if (strncmp(s, name, n) == 0 && s[n] == '=' && s[n + 1])
			return strdup(s + n + 1);
	return NULL;
}

/* Of the postmaster's user, by the instance's own /etc/passwd; caller frees. */
static char *home_of_user(pid_t pid)
{
	_cleanup_free_ char *uid = NULL, *text = NULL;
	char *line, *save = NULL;

	if (proc_status_field(pid, "Uid", &uid, NULL) < 0 ||
	    root_read(pid, "/etc/passwd", PASSWD_MAX, &text, NULL, NULL) < 0)
		return NULL;
	uid[strcspn(uid, "\t ")] = '\0';
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *word[7], *at = line;
		size_t n = 0;

		while (n < ELEMENTS(word) && (word[n] = strsep(&at, ":")))
			n++;
		if (n >= 6 && strcmp(word[2], uid) == 0)
			return strdup(word[5]);
	}
	return NULL;
}

static char *home_of(const struct instance_info *i)
{
	long version = i->version ? strtol(i->version, NULL, 10) : 0;
	char *home = version >= HOME_FIRST ? variable(i->pid, "HOME") : NULL;

	return home ? home : home_of_user(i->pid);
}

static int find_of_client(const struct instance_info *i, char **ret, struct err **err)
{
	struct setting s = {.name = "primary_conninfo"};
	_cleanup_free_ char *named = NULL, *home = NULL;
	bool follows;
	int r;

	r = settings_read(i, &s, 1, err);
	if (r < 0)
		return r;
	follows = s.value && s.value[0];
	named = follows ? conninfo_find(s.value, "sslcert") : NULL;
	settings_done(&s, 1);
	if (!follows)
		return err_set(err, EINVAL, "%s: primary_conninfo is not set: it shows no certificate to a "
					    "primary", i->name);
	if (!named)
		named = variable(i->pid, "PGSSLCERT");
	if (named)
		return in_data(i, named, ret, err);
	home = home_of(i);
	if (!home)
		return err_set(err, EINVAL, "%s: primary_conninfo has no sslcert, and its user has no home",
			i->name);
	return asprintf(ret, "%s/.postgresql/postgresql.crt", home) < 0 ?
		err_errno(err, ENOMEM, "name a file") : 0;
}

int tls_file_find(const struct instance_info *i, enum tls_file which, char **ret, struct err **err)
{
	if (which == TLS_FILE_CLIENT)
		return find_of_client(i, ret, err);
	return find_of_server(i, which == TLS_FILE_CA, ret, err);
}
