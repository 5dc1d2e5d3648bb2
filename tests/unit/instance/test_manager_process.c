#include <criterion/criterion.h>
#include <string.h>
#include "core/cleanup.h"
#include "instance/manager_process.h"

#define LINE(text) text, sizeof(text)

static const struct {
	const char *line;
	size_t length;
	const char *name;
} cases[] = {
	{LINE("/usr/bin/python3\0/usr/bin/patroni\0/etc/patroni.yml"), "Patroni"},
	{LINE("python3\0-u\0-X\0dev\0/opt/patroni/patroni.py\0x.yml"), "Patroni"},
	{LINE("/usr/bin/python3.11\0-m\0patroni\0x.yml"), "Patroni"},
	{LINE("/usr/local/bin/patroni\0x.yml"), "Patroni"},
	{LINE("/controller/manager\0instance\0run\0--status-port-tls"), "CloudNativePG"},
	{LINE("/usr/bin/pg_autoctl\0run"), "pg_autoctl"},
	{LINE("pg_autoctl: node active"), "pg_autoctl"},
	{LINE("repmgrd\0-f\0/etc/repmgr.conf"), "repmgrd"},
	{LINE("/bin/stolon-keeper\0--data-dir\0/d"), "stolon-keeper"},
	{LINE("/usr/bin/python3\0/usr/bin/patronictl\0list"), NULL},
	{LINE("/usr/bin/python3\0-m\0http.server\0patroni"), NULL},
	{LINE("/usr/bin/python3\0serve.py\0patroni"), NULL},
	{LINE("/controller/manager\0controller"), NULL},
	{LINE("vi\0/etc/patroni"), NULL},
	{LINE("bash\0/usr/bin/patroni"), NULL},
	{LINE("python3\0-m"), NULL},
	{LINE("python3"), NULL},
	{LINE(""), NULL},
	/* Cut off, without its last NUL. */
	{"patroni", 7, NULL},
	{"python3\0patroni", 15, NULL},
	{"", 0, NULL},
};

Test(manager_process, names)
{
	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		const char *name = manager_process_name(cases[i].line, cases[i].length);

		cr_expect((!name && !cases[i].name) ||
				  (name && cases[i].name && strcmp(name, cases[i].name) == 0),
			"case %zu (%s): %s", i, cases[i].line, name);
	}
}
