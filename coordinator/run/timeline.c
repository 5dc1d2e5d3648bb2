#include "run/timeline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/clock.h"

#define REDRAW_NS (200 * NS_PER_MS)

struct timeline {
	FILE *f;
	bool terminal, colour;
	bool status_shown;
	uint64_t drawn_ns;
};

struct timeline *timeline_new(FILE *f)
{
	struct timeline *t = calloc(1, sizeof(*t));

	if (!t)
		abort();
	t->f = f;
	t->terminal = isatty(fileno(f));
	t->colour = t->terminal && !getenv("NO_COLOR");
	return t;
}

static void clear_status(struct timeline *t)
{
	if (t->status_shown)
		fputs("\r\033[K", t->f);
	t->status_shown = false;
}

static const char *colour_of(const struct run_event *e)
{
	switch (e->kind) {
	case EVENT_FIRED:
	case EVENT_ABORT:
	case EVENT_FAULT_ERROR:
		return "\033[31m";
	case EVENT_REVERTED:
		return "\033[32m";
	case EVENT_WRITES:
	case EVENT_READS:
	case EVENT_REACH:
	case EVENT_READY:
	case EVENT_PHASE:
		return e->value && strcmp(e->value, "fail") == 0 ? "\033[31m" : "\033[32m";
	case EVENT_LEADER:
	case EVENT_CHOSEN:
	case EVENT_ROLE:
		return "\033[33m";
	default:
		return "\033[2m";
	}
}

/* Seconds since the first fault fired, or, before that, to the start with a "-". */
static void print_time(struct timeline *t, const struct run_record *r, uint64_t at_ns)
{
	uint64_t zero = r->started_ns;
	double s;

	for (size_t i = 0; i < r->n_faults; i++) {
		if (r->faults[i].fired_ns) {
			zero = r->faults[i].fired_ns;
			break;
		}
	}
	s = at_ns >= zero ? (double)(at_ns - zero) / 1e9 : -((double)(zero - at_ns) / 1e9);
	fprintf(t->f, "%+9.3f s  ", s);
}

/* Texts hold words of managers and servers: on a terminal a control character would be obeyed. */
static void print_text(FILE *f, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {
			fputc('?', f);
			p++;
		} else {
			fputc(*p < 0x20 || *p == 0x7f ? '?' : *p, f);
		}
	}
}

void timeline_event(struct timeline *t, const struct run_record *r, const struct run_event *e)
{
	clear_status(t);
	print_time(t, r, e->at_ns);
	if (t->colour)
		fputs(colour_of(e), t->f);
	fprintf(t->f, "%-10s", event_kind_to_string(e->kind));
	if (t->colour)
		fputs("\033[0m", t->f);
	fputc(' ', t->f);
	print_text(t->f, e->text);
	fputc('\n', t->f);
	fflush(t->f);
}

void timeline_status(struct timeline *t, const char *text)
{
	struct winsize w = {0};
	uint64_t now = now_ns();
	int width = 79;

	if (!t->terminal || now - t->drawn_ns < REDRAW_NS)
		return;
	if (ioctl(fileno(t->f), TIOCGWINSZ, &w) == 0 && w.ws_col > 1)
		width = w.ws_col - 1;
	t->drawn_ns = now;
	clear_status(t);
	fprintf(t->f, "%.*s", width, text);
	fflush(t->f);
	t->status_shown = true;
}

void timeline_free(struct timeline *t)
{
	if (!t)
		return;
	clear_status(t);
	fflush(t->f);
	free(t);
}
