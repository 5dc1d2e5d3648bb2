/*
 * What reading a clock costs: the four readings that programs make, as the kernel gave them and under
 * each kind of skew, patched into this very process as clock-skew patches others. Rounds of all kinds
 * take turns. A line of JSON: ns a reading, the median and the least of the rounds.
 *
 *   clock_read ROUNDS [native]     native: as it is alone, for what is preloaded
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "core/clock.h"
#include "core/json.h"
#include "kernel/vdso.h"

#define READINGS   100000
#define ROUNDS_MAX 1000

enum kind { KIND_NATIVE, KIND_OFFSET, KIND_DRIFT, KIND_STROBE, KIND_ENDED, KIND_STUB, KIND_MAX };
enum call { CALL_REALTIME, CALL_MONOTONIC, CALL_GETTIMEOFDAY, CALL_TIME, CALL_MAX };

static const char *const kind_names[KIND_MAX] = {"native", "offset", "drift", "strobe", "ended", "stub"};
static const char *const call_names[CALL_MAX] = {"clock_gettime(REALTIME)",
	"clock_gettime(MONOTONIC)", "gettimeofday", "time"};

static double results[KIND_MAX][CALL_MAX][ROUNDS_MAX];

/* Not by what is measured. */
static uint64_t outside_ns(void)
{
	struct timespec t;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static double measure(enum call call)
{
	volatile time_t seconds;
	struct timespec t;
	struct timeval v;
	uint64_t start = outside_ns();

	for (int i = 0; i < READINGS; i++) {
		if (call == CALL_REALTIME)
			clock_gettime(CLOCK_REALTIME, &t);
		else if (call == CALL_MONOTONIC)
			clock_gettime(CLOCK_MONOTONIC, &t);
		else if (call == CALL_GETTIMEOFDAY)
			gettimeofday(&v, NULL);
		else
			seconds = time(NULL);
	}
	(void)seconds;
	return (double)(outside_ns() - start) / READINGS;
}

static int put_on(enum kind kind, const struct vdso_image *own, struct vdso_process *self,
	struct err **err)
{
	_cleanup_(vdso_patch_done) struct vdso_patch patch = {0};
	struct vdso_skew skew = {
		.token = 1,
		.length_ns = kind == KIND_ENDED ? 0 : 3600 * NS_PER_S,
		.offset_ns = 3600123456789,
		.drift_ppm = kind == KIND_DRIFT ? 500 : 0,
		.strobe_ns = kind == KIND_STROBE ? 3600 * NS_PER_S : 0,
	};
	int r;

	if (kind == KIND_NATIVE)
		return vdso_make(self, own->bytes, 0, own->size, err);
	for (size_t i = 0; i < VDSO_CLOCKS; i++)
		skew.start_ns[i] = UINT64_MAX;
	skew.start_ns[CLOCK_REALTIME] = skew.start_ns[CLOCK_REALTIME_COARSE] = realtime_ns();
	r = vdso_patch_build(own, &skew, kind == KIND_STUB, &patch, err);
	return r < 0 ? r : vdso_make(self, patch.bytes, 0, patch.size, err);
}

static int round_of(int round, enum kind last, const struct vdso_image *own,
	struct vdso_process *self, struct err **err)
{
	for (enum kind kind = 0; kind <= last; kind++) {
		int r = last == KIND_NATIVE ? 0 : put_on(kind, own, self, err);

		if (r < 0)
			return r;
		for (enum call call = 0; call < CALL_MAX; call++)
			results[kind][call][round] = measure(call);
	}
	return last == KIND_NATIVE ? 0 : put_on(KIND_NATIVE, own, self, err);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void print(int rounds, enum kind last)
{
	_cleanup_json_ cJSON *all = json_object();
	_cleanup_free_ char *text = NULL;

	for (enum kind kind = 0; kind <= last; kind++) {
		cJSON *calls = json_object();

		for (enum call call = 0; call < CALL_MAX; call++) {
			double *list = results[kind][call];
			cJSON *item = json_object();

			qsort(list, (size_t)rounds, sizeof(*list), compare);
			json_add_double(item, "median", list[rounds / 2]);
			json_add_double(item, "least", list[0]);
			json_add_item(calls, call_names[call], item);
		}
		json_add_item(all, kind_names[kind], calls);
	}
	text = json_print(all);
	puts(text);
}

int main(int argc, char **argv)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	_cleanup_(vdso_close) struct vdso_process self = {.fd = -1};
	_cleanup_err_ struct err *err = NULL;
	int rounds = argc > 1 ? atoi(argv[1]) : 0, r = 0;
	enum kind last = argc > 2 && strcmp(argv[2], "native") == 0 ? KIND_NATIVE : KIND_STUB;

	if (rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench-clock_read ROUNDS [native]\n");
		return 2;
	}
	if (last != KIND_NATIVE) {
		r = vdso_own(&own, &err);
		if (r == 0)
			r = vdso_open(getpid(), &own, &self, &err);
	}
	for (int round = 0; round < rounds && r == 0; round++)
		r = round_of(round, last, &own, &self, &err);
	if (r < 0) {
		fprintf(stderr, "%s\n", err_text(err));
		return 1;
	}
	print(rounds, last);
	return 0;
}
