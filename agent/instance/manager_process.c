#include "instance/manager_process.h"

#include <stdbool.h>
#include <string.h>

struct arguments {
	const char *at, *end;
};

/* The next argument, or NULL; what no NUL ends is cut off and so none. */
static const char *next(struct arguments *a)
{
	const char *argument = a->at, *nul = a->at < a->end ?
		memchr(a->at, '\0', (size_t)(a->end - a->at)) : NULL;

	if (!nul)
		return NULL;
	a->at = nul + 1;
	return argument;
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_patroni(const char *word)
{
	return strcmp(word, "patroni") == 0 || strcmp(word, "patroni.py") == 0 ||
	       strcmp(word, "patroni.__main__") == 0;
}

/* python3 [OPTION]... SCRIPT|-m MODULE ...: options -W and -X take an argument. */
static bool runs_patroni(struct arguments *a)
{
	const char *argument;

	while ((argument = next(a))) {
		if (strcmp(argument, "-m") == 0) {
			argument = next(a);
			return argument && is_patroni(argument);
		}
		if (argument[0] != '-')
			return is_patroni(base_of(argument));
		if (strcmp(argument, "-W") == 0 || strcmp(argument, "-X") == 0)
			next(a);
	}
	return false;
}

/* /controller/manager instance run ... */
static bool runs_instance(struct arguments *a)
{
	const char *first = next(a), *second = next(a);

	return first && second && strcmp(first, "instance") == 0 && strcmp(second, "run") == 0;
}

const char *manager_process_name(const char *command_line, size_t length)
{
	struct arguments a = {command_line, command_line + length};
	const char *program = next(&a);

	if (!program)
		return NULL;
	program = base_of(program);
	if (is_patroni(program) || (strncmp(program, "python", 6) == 0 && runs_patroni(&a)))
		return "Patroni";
	if (strcmp(program, "manager") == 0 && runs_instance(&a))
		return "CloudNativePG";
	/* Its services write titles: "pg_autoctl: node active". */
	if (strcmp(program, "pg_autoctl") == 0 || strncmp(program, "pg_autoctl: ", 12) == 0)
		return "pg_autoctl";
	if (strcmp(program, "repmgrd") == 0)
		return "repmgrd";
	if (strcmp(program, "stolon-keeper") == 0)
		return "stolon-keeper";
	return NULL;
}

const char *manager_process_names(void)
{
	return "Patroni, CloudNativePG's instance manager, pg_autoctl, repmgrd, stolon-keeper";
}
