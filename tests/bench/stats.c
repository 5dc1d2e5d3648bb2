/* Has the kernel time its BPF programs (BPF_ENABLE_STATS: run_time_ns in their fdinfo) for as long as
 * this program's input is open. Held: it ends with the descriptor, so with this program. */
#include <bpf/bpf.h>
#include <stdio.h>
#include <unistd.h>
#include "core/cleanup.h"

int main(void)
{
	_cleanup_close_ int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	char byte;

	if (fd < 0) {
		perror("BPF_ENABLE_STATS");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
