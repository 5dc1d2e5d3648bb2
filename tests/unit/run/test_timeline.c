/* What a terminal and what a file are shown of a run. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/clock.h"
#include "run/timeline.h"

#define AGAIN_US 250000	/* a status line is drawn five times a second */

static FILE *terminal(int *ret_ours, unsigned short columns)
{
	struct winsize size = {.ws_row = 24, .ws_col = columns};
	int theirs;
	FILE *f;

	cr_assert_eq(openpty(ret_ours, &theirs, NULL, NULL, &size), 0);
	f = fdopen(theirs, "w");
	cr_assert_not_null(f);
	return f;
}

static const char *shown(int fd)
{
	static char text[4096];
	size_t n = 0;
	ssize_t k;

	while (n < sizeof(text) - 1 && poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, n ? 50 : 5000) == 1 &&
		(k = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)k;
	text[n] = '\0';
	return text;
}

static struct run_event event_of(enum event_kind kind, const char *value, const char *text)
{
	return (struct run_event){.at_ns = 1500 * NS_PER_MS, .kind = kind, .instance = -1,
		.value = (char *)value, .text = (char *)text};
}

Test(timeline, a_file_gets_lines_alone)
{
	struct fault_run fault = {0};
	struct run_record r = {.started_ns = NS_PER_S};
	struct run_event e = event_of(EVENT_NOTE, NULL, "a\033[2J\tb\x7f \xc2\x9b" "31m \xc3\xa9");
	char *text = NULL;
	size_t length;
	FILE *f = open_memstream(&text, &length);
	struct timeline *t = timeline_new(f);

	timeline_event(t, &r, &e);
	timeline_status(t, "status");
	/* Once a fault has fired, times are from there on; what came before is below zero. */
	r.faults = &fault;
	r.n_faults = 1;
	timeline_event(t, &r, &e);
	fault.fired_ns = 3 * NS_PER_S;
	timeline_event(t, &r, &e);
	timeline_free(t);
	fclose(f);
	cr_assert_str_eq(text, "   +0.500 s  note       a?[2J?b? ?31m \xc3\xa9\n"
			       "   +0.500 s  note       a?[2J?b? ?31m \xc3\xa9\n"
			       "   -1.500 s  note       a?[2J?b? ?31m \xc3\xa9\n");
	free(text);
	timeline_free(NULL);
}

Test(timeline, a_terminal_gets_colours_by_what_they_mean)
{
	static const struct {
		enum event_kind kind;
		const char *value, *colour;
	} is[] = {{EVENT_FIRED, NULL, "31"}, {EVENT_ABORT, NULL, "31"}, {EVENT_FAULT_ERROR, NULL, "31"},
		{EVENT_REVERTED, NULL, "32"}, {EVENT_WRITES, "fail", "31"}, {EVENT_WRITES, "ok", "32"},
		{EVENT_READS, "fail", "31"}, {EVENT_REACH, NULL, "32"}, {EVENT_READY, "fail", "31"},
		{EVENT_PHASE, "ok", "32"}, {EVENT_LEADER, NULL, "33"}, {EVENT_CHOSEN, NULL, "33"},
		{EVENT_ROLE, NULL, "33"}, {EVENT_NOTE, NULL, "2"}};
	struct run_record r = {0};
	struct timeline *t;
	char wanted[32];
	int ours;
	FILE *f = terminal(&ours, 80);

	unsetenv("NO_COLOR");
	t = timeline_new(f);
	for (size_t i = 0; i < ELEMENTS(is); i++) {
		struct run_event e = event_of(is[i].kind, is[i].value, "x");
		const char *text;

		timeline_event(t, &r, &e);
		text = shown(ours);
		snprintf(wanted, sizeof(wanted), "\033[%sm%s", is[i].colour, event_kind_to_string(is[i].kind));
		cr_assert(strstr(text, wanted), "%s: %s", wanted, text);
		cr_assert(strstr(text, "\033[0m x\r\n"), "%s", text);
	}
	timeline_free(t);
	setenv("NO_COLOR", "1", 1);
	t = timeline_new(f);
	timeline_event(t, &r, &(struct run_event){.kind = EVENT_FIRED, .text = (char *)"x"});
	cr_assert_null(strchr(shown(ours), '\033'));
	timeline_free(t);
	fclose(f);
	close(ours);
}

Test(timeline, the_line_of_status_makes_room)
{
	struct run_record r = {0};
	struct run_event e = event_of(EVENT_NOTE, NULL, "event");
	struct timeline *t;
	const char *text;
	int ours;
	FILE *f = terminal(&ours, 11);

	setenv("NO_COLOR", "1", 1);
	t = timeline_new(f);
	timeline_status(t, "0123456789abc");
	cr_assert_str_eq(shown(ours), "0123456789", "no wider than the terminal");
	timeline_status(t, "too soon");
	usleep(AGAIN_US);
	timeline_status(t, "second");
	text = shown(ours);
	cr_assert_str_eq(text, "\r\033[Ksecond");
	timeline_event(t, &r, &e);
	text = shown(ours);
	cr_assert_eq(strncmp(text, "\r\033[K", 4), 0, "%s", text);
	cr_assert(strstr(text, "event\r\n"), "%s", text);
	usleep(AGAIN_US);
	timeline_status(t, "last");
	cr_assert_str_eq(shown(ours), "last", "there was no line to remove");
	timeline_free(t);
	cr_assert_str_eq(shown(ours), "\r\033[K");
	fclose(f);
	close(ours);
}
