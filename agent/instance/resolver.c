#include "instance/resolver.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "kernel/root.h"

#define FILE_MAX_BYTES 65536
/* glibc and musl ask three, others what is there. */
#define SERVERS_MAX 8

/* The address as it is written by everybody else; false: it is none. */
static bool normalized(char *word, char to[INET6_ADDRSTRLEN])
{
	unsigned char address[16];
	int family = strchr(word, ':') ? AF_INET6 : AF_INET;

	if (family == AF_INET6)
		word[strcspn(word, "%")] = '\0';
	return inet_pton(family, word, address) == 1 &&
		inet_ntop(family, address, to, INET6_ADDRSTRLEN) != NULL;
}

char **resolver_parse(const char *text)
{
	static const char key[] = "nameserver";
	char **out = NULL;

	for (const char *next, *line = text; *line && strv_length(out) < SERVERS_MAX; line = next) {
		size_t length = strcspn(line, "\n");
		char word[64], address[INET6_ADDRSTRLEN];
		const char *from;
		size_t n;

		next = line + length + (line[length] == '\n');
		/* A key begins its line. */
		if (strncmp(line, key, sizeof(key) - 1) != 0)
			continue;
		from = line + sizeof(key) - 1;
		if (*from != ' ' && *from != '\t')
			continue;
		from += strspn(from, " \t");
		n = strcspn(from, " \t\r\n;#");
		if (n >= sizeof(word))
			continue;
		memcpy(word, from, n);
		word[n] = '\0';
		if (normalized(word, address) && !strv_contains(out, address))
			strv_push(&out, strdup(address));
	}
	return out;
}

int resolver_find(pid_t pid, char ***ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	int r = root_read(pid, "/etc/resolv.conf", FILE_MAX_BYTES, &text, NULL, err);

	if (r < 0)
		return r;
	*ret = resolver_parse(text);
	return 0;
}
