#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "verbs.h"

const struct cli_verb *const cli_verbs[] = {
	&verb_run,
	&verb_inject,
	&verb_drills,
	&verb_faults,
	&verb_nodes,
	&verb_targets,
	&verb_status,
	&verb_stop,
	&verb_report,
	&verb_certs,
	&verb_completion,
	&verb_version,
	NULL,
};

int main(int argc, char **argv)
{
	/* A reader that goes away (| head) is an error of a write, not the end of a drill. */
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		cli_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
		strcmp(argv[1], "help") == 0) {
		cli_help(stdout);
		return EXIT_PASSED;
	}
	if (strcmp(argv[1], "--version") == 0)
		return verb_version.run(&verb_version, argc - 1, argv + 1);
	for (size_t i = 0; cli_verbs[i]; i++)
		if (strcmp(cli_verbs[i]->name, argv[1]) == 0)
			return cli_verbs[i]->run(cli_verbs[i], argc - 1, argv + 1);
	fprintf(stderr, "pgjolt: unknown verb \"%s\"\nTry `pgjolt --help`.\n", argv[1]);
	return EXIT_USAGE;
}
