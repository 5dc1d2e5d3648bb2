#include "hold/gate.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/clock.h"

void gate_init(struct gate *g, const struct gate_effect *effect)
{
	memset(g, 0, sizeof(*g));
	g->effect = *effect;
	shape_init(&g->shape, &g->effect.delay, 0);
}

void gate_set_deadline(struct gate *g, uint64_t until_boot_ns)
{
	atomic_store_explicit(&g->until_boot_ns, until_boot_ns, memory_order_release);
}

bool gate_is_open(const struct gate *g)
{
	uint64_t until = atomic_load_explicit(&g->until_boot_ns, memory_order_acquire);

	return until && boot_ns() < until;
}

enum gate_verdict gate_choose(struct gate *g, uint64_t *ret_delay_ns)
{
	g->counts.matched++;
	if (g->effect.matched && atomic_fetch_add(g->effect.matched, 1) < g->effect.after)
		return GATE_PASS;
	if (!shape_loses(&g->shape))
		return GATE_PASS;
	if (g->effect.code)
		return GATE_FAIL;
	*ret_delay_ns = shape_delay_ns(&g->shape);
	return *ret_delay_ns ? GATE_HOLD : GATE_PASS;
}

void gate_count_hit(struct gate *g, enum gate_verdict verdict, enum disk_operation operation,
	enum disk_class class, uint64_t bytes)
{
	struct gate_counts *c = &g->counts;

	if (verdict == GATE_FAIL) {
		c->failed++;
	} else {
		c->delayed++;
		c->held++;
		if (c->held > c->held_peak)
			c->held_peak = c->held;
	}
	c->bytes += bytes;
	if (operation < DISK_OPERATION_MAX)
		c->operations[operation]++;
	if (class < DISK_CLASS_MAX)
		c->classes[class]++;
}

static unsigned bucket_of(uint64_t ns)
{
	uint64_t us = ns / NS_PER_US;
	unsigned bucket = us < 2 ? 0 : 63U - (unsigned)__builtin_clzll(us);

	return bucket < DELAY_BUCKETS ? bucket : DELAY_BUCKETS - 1;
}

void gate_count_given(struct gate *g, uint64_t given_ns, uint64_t late_ns)
{
	struct gate_counts *c = &g->counts;

	c->held--;
	if (!c->delay_min_ns || given_ns < c->delay_min_ns)
		c->delay_min_ns = given_ns;
	if (given_ns > c->delay_max_ns)
		c->delay_max_ns = given_ns;
	if (late_ns > c->error_max_ns)
		c->error_max_ns = late_ns;
	c->delay_sum_ns += given_ns;
	c->error_buckets[bucket_of(late_ns)]++;
}

void gate_count_passed(struct gate *g, uint64_t took_ns)
{
	g->counts.passed_sum_ns += took_ns;
	if (took_ns > g->counts.passed_max_ns)
		g->counts.passed_max_ns = took_ns;
}

/* One writer: plain stores that a reader sees whole. */
void gate_publish(struct gate *g)
{
	uint64_t values[GATE_COUNTS];

	memcpy(values, &g->counts, sizeof(values));
	for (size_t i = 0; i < GATE_COUNTS; i++)
		atomic_store_explicit(&g->published[i], values[i], memory_order_relaxed);
}

void gate_counts(const struct gate *g, struct gate_counts *ret)
{
	uint64_t values[GATE_COUNTS];

	for (size_t i = 0; i < GATE_COUNTS; i++)
		values[i] = atomic_load_explicit(&g->published[i], memory_order_relaxed);
	memcpy(ret, values, sizeof(*ret));
}

/* Best effort: without CAP_SYS_NICE the delays are as exact as the load of the node lets them be. */
void gate_thread_be_prompt(const char *name)
{
	struct sched_param p = {.sched_priority = 1};

	pthread_setname_np(pthread_self(), name);
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &p) != 0)
		setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), -20);
}
