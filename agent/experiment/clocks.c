/* When an experiment ends by itself: its duration, its lease, its target. */
#include <sys/epoll.h>
#include "core/clock.h"
#include "core/units.h"
#include "experiment/machine.h"

#define ACCURACY_US   1	/* 0 would mean 250 ms (sd_event_add_time(3)) */
#define RETRY_MIN_NS  (100 * NS_PER_MS)
#define RETRY_MAX_NS  (5 * NS_PER_S)
#define GONE_EVERY_NS (500 * NS_PER_MS)

static int on_duration(sd_event_source *s, uint64_t usec, void *data)
{
	(void)s, (void)usec;
	experiment_revert(data, END_DURATION, NULL);
	return 0;
}

static int on_lease(sd_event_source *s, uint64_t usec, void *data)
{
	(void)s, (void)usec;
	experiment_revert(data, END_LEASE, NULL);
	return 0;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *data)
{
	struct experiment *e = data;

	(void)s, (void)usec;
	e->retrying = true;
	experiment_end(e, NULL);
	e->retrying = false;
	return 0;
}

static void timer_start(sd_event_source *timer, uint64_t at_boot_ns)
{
	/* Rounded up: never before its time. */
	sd_event_source_set_time(timer, (at_boot_ns + NS_PER_US - 1) / NS_PER_US);
	sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

/* The postmaster has ended: is that the end of what the fault acts on? */
static void target_check(struct experiment *e)
{
	if (e->driver->target_is_gone(&e->fault)) {
		experiment_revert(e, END_TARGET_GONE, NULL);
		return;
	}
	timer_start(e->gone_timer, boot_ns() + GONE_EVERY_NS);
}

static int on_gone_timer(sd_event_source *s, uint64_t usec, void *data)
{
	(void)s, (void)usec;
	target_check(data);
	return 0;
}

static int on_target_ended(sd_event_source *s, int fd, uint32_t revents, void *data)
{
	struct experiment *e = data;

	(void)fd, (void)revents;
	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	experiments_tell(e->all, "instance", e, NULL, "postmaster %d of %s ended",
		(int)e->postmaster.pid, e->instance_name);
	if (e->state == EXPERIMENT_ARMED)
		experiment_revert(e, END_TARGET_GONE, NULL);
	else if (e->gone_timer)
		target_check(e);
	return 0;
}

static int timer_new(struct experiment *e, sd_event_source **ret, sd_event_time_handler_t handler,
	struct err **err)
{
	int r;

	/* The clock of the deadline that BPF programs compare with. */
	r = sd_event_add_time(e->all->config.node->event, ret, CLOCK_BOOTTIME, UINT64_MAX,
		ACCURACY_US, handler, e);
	if (r >= 0)
		r = sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
	if (r < 0)
		return err_errno(err, r, "timer");
	return 0;
}

int experiment_clocks_new(struct experiment *e, struct err **err)
{
	int r;

	r = timer_new(e, &e->duration_timer, on_duration, err);
	if (r >= 0)
		r = timer_new(e, &e->lease_timer, on_lease, err);
	if (r >= 0 && e->driver->target_is_gone)
		r = timer_new(e, &e->gone_timer, on_gone_timer, err);
	if (r < 0)
		return r;
	r = proc_pidfd(&e->postmaster, &e->target_fd, err);
	if (r == -ESRCH)
		return err_set(err, ESTALE, "instance %s: its postmaster %d ended",
			e->instance_name, (int)e->postmaster.pid);
	if (r < 0)
		return r;
	r = sd_event_add_io(e->all->config.node->event, &e->target_watch, e->target_fd, EPOLLIN,
		on_target_ended, e);
	if (r < 0)
		return err_errno(err, r, "watch postmaster %d", (int)e->postmaster.pid);
	return 0;
}

void experiment_lease_start(struct experiment *e, uint64_t lease_ms)
{
	e->lease_end_boot_ns = boot_ns() + lease_ms * NS_PER_MS;
	timer_start(e->lease_timer, e->lease_end_boot_ns);
}

void experiment_duration_start(struct experiment *e)
{
	timer_start(e->duration_timer, e->fault.deadline_boot_ns);
}

void experiment_retry_start(struct experiment *e)
{
	e->retry_ns = e->retry_ns ? e->retry_ns * 2 : RETRY_MIN_NS;
	if (e->retry_ns > RETRY_MAX_NS)
		e->retry_ns = RETRY_MAX_NS;
	if (!e->retry_timer && timer_new(e, &e->retry_timer, on_retry, NULL) < 0)
		return;
	timer_start(e->retry_timer, boot_ns() + e->retry_ns);
}

void experiment_clocks_drop(struct experiment *e)
{
	enum experiment_state s = e->state;

	/* NEW as well: they are made while it is armed. */
	if (s != EXPERIMENT_NEW && s != EXPERIMENT_ARMED && s != EXPERIMENT_FIRING &&
	    s != EXPERIMENT_ACTIVE) {
		e->duration_timer = sd_event_source_disable_unref(e->duration_timer);
		e->lease_timer = sd_event_source_disable_unref(e->lease_timer);
		e->gone_timer = sd_event_source_disable_unref(e->gone_timer);
		e->target_watch = sd_event_source_disable_unref(e->target_watch);
		closep(&e->target_fd);
		e->target_fd = -1;
	}
	if (s == EXPERIMENT_CLEAN)
		e->retry_timer = sd_event_source_disable_unref(e->retry_timer);
}
