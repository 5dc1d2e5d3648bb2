/* What ends a run from outside: signals, and the end of an agent of our own. */
#include "run/run.h"

#include <signal.h>
#include <sys/epoll.h>

#include "core/clock.h"

void run_interrupt(struct run *r)
{
	bool again = r->interrupted;

	r->interrupted = true;
	if (!again || r->hurry)
		return;
	r->hurry = true;
	r->hurry_ns = now_ns();
	/* Neither does anything else that waits, up to the agent's end. */
	r->session->hurry = true;
	http_client_give_up_at(r->session->http, r->hurry_ns + RUN_HURRY_NS);
	if (r->probes)
		probes_hurry(r->probes);
	run_note(r, EVENT_NOTE, -1, "hurry", "interrupted again: nothing is waited for any more");
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *data)
{
	(void)s;
	(void)si;
	run_interrupt(data);
	run_abort(data, "interrupted");
	return 0;
}

static int on_agent_death(sd_event_source *s, int fd, uint32_t revents, void *data)
{
	struct run *r = data;

	(void)fd;
	(void)revents;
	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	run_agent_lost(r, r->session->links[0], "its process has ended");
	return 0;
}

int run_watch_signals(struct run *r, sd_event_signal_handler_t handler, struct err **err)
{
	sd_event *event = r->session->event;
	struct sigaction hup;
	sigset_t set;
	bool ignored;
	int k;

	ignored = sigaction(SIGHUP, NULL, &hup) == 0 && hup.sa_handler == SIG_IGN;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (!ignored)
		sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	k = sd_event_add_signal(event, &r->on_int, SIGINT, handler, r);
	if (k >= 0)
		k = sd_event_add_signal(event, &r->on_term, SIGTERM, handler, r);
	if (k >= 0 && !ignored)
		k = sd_event_add_signal(event, &r->on_hup, SIGHUP, handler, r);
	return k < 0 ? err_errno(err, k, "event loop") : 0;
}

int run_watch_ends(struct run *r, struct err **err)
{
	int k = run_watch_signals(r, on_signal, err);

	if (k < 0 || !r->session->local)
		return k;
	k = sd_event_add_io(r->session->event, &r->agent_death,
		local_agent_pidfd(r->session->local), EPOLLIN, on_agent_death, r);
	return k < 0 ? err_errno(err, k, "event loop") : 0;
}
