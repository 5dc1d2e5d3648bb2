#include "instance/dcs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include "core/json.h"

#define STATE_ESTABLISHED 0x01
#define CONNECTIONS_MAX 65536

bool dcs_is_store_port(unsigned port)
{
	return port == 2379 || port == 4001 || port == 8500 || port == 8501 || port == 2181;
}

/* "  0: 0B64D50A:B5A2 0164D50A:094B 01 ...": local, remote, state. */
static void read_table(FILE *f, char ***out)
{
	char line[512];
	unsigned port, state;

	for (unsigned n = 0; n < CONNECTIONS_MAX && fgets(line, sizeof(line), f); n++) {
		char *text = NULL;

		if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%*4x %*[0-9A-Fa-f]:%4x %2x", &port, &state) !=
				2 ||
			state != STATE_ESTABLISHED || !dcs_is_store_port(port))
			continue;
		if (asprintf(&text, "all:%u", port) < 0)
			return;
		if (strv_contains(*out, text))
			free(text);
		else
			strv_push(out, text);
	}
}

int dcs_find(pid_t pid, char ***ret, struct err **err)
{
	static const char *const tables[] = {"tcp", "tcp6"};
	_cleanup_strv_ char **out = NULL;

	for (size_t i = 0; i < ELEMENTS(tables); i++) {
		_cleanup_fclose_ FILE *f = NULL;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/net/%s", (int)pid, tables[i]);
		f = fopen(path, "re");
		/* A kernel without IPv6 has no tcp6. */
		if (!f && errno != ENOENT)
			return err_errno(err, errno, "%s", path);
		if (f)
			read_table(f, &out);
	}
	*ret = steal_ptr(out);
	return 0;
}
