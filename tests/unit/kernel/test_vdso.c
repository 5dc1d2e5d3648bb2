#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "core/clock.h"
#include "kernel/vdso.h"

#define HOUR (3600 * NS_PER_S)

static void own_image(struct vdso_image *ret)
{
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(vdso_own(ret, &err), 0, "%s", err_text(err));
}

Test(vdso, our_own)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};

	own_image(&own);
	cr_expect_eq(memcmp(own.bytes, ELFMAG, SELFMAG), 0);
	cr_expect_gt(own.clock_gettime.size, 16);
	cr_expect_gt(own.padding, own.clock_gettime.offset + own.clock_gettime.size);
	for (size_t i = own.padding; i < own.size; i++)
		cr_assert_eq(own.bytes[i], 0);
}

Test(vdso, an_image_that_is_cut_off)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};

	own_image(&own);
	for (size_t size = 0; size < own.padding; size++) {
		_cleanup_(vdso_image_done) struct vdso_image image = {0};
		uint8_t *copy = malloc(size + 1);	/* so that the sanitizer sees what is beyond */
		int r;

		memcpy(copy, own.bytes, size);
		r = vdso_parse(copy, size, &image, NULL);
		cr_assert(r == 0 || r == -EBADMSG);
		if (r == 0)
			cr_assert_leq(image.clock_gettime.offset + image.clock_gettime.size, size);
		free(copy);
	}
}

/* Whatever is in it: no crash, and functions that lie in it, and a patch that does. */
Test(vdso, an_image_that_is_damaged)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	struct vdso_skew skew = {.token = 1, .length_ns = HOUR};
	unsigned seed = 1, taken = 0;

	own_image(&own);
	for (int round = 0; round < 20000; round++) {
		_cleanup_(vdso_image_done) struct vdso_image image = {0};
		_cleanup_(vdso_patch_done) struct vdso_patch patch = {0};
		uint8_t *copy = malloc(own.size);

		memcpy(copy, own.bytes, own.size);
		for (int i = 0; i < 1 + round % 8; i++)
			copy[(size_t)rand_r(&seed) % own.padding] = (uint8_t)rand_r(&seed);
		if (vdso_parse(copy, own.size, &image, NULL) == 0 &&
		    vdso_patch_build(&image, &skew, false, &patch, NULL) == 0) {
			taken++;
			cr_assert_leq(image.clock_gettime.offset + image.clock_gettime.size, own.size);
			cr_assert_leq(patch.block + patch.block_size, own.size);
		}
		free(copy);
	}
	cr_expect_gt(taken, 100);
}

Test(vdso, refused_images)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0}, none = {0};
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ uint8_t *big = calloc(1, VDSO_SIZE_MAX + 1);
	Elf64_Ehdr e;

	own_image(&own);
	cr_expect_eq(vdso_parse(big, VDSO_SIZE_MAX + 1, &none, &err), -EBADMSG);
	cr_expect_eq(vdso_parse(big, 4096, &none, &err), -EBADMSG);
	memcpy(&e, own.bytes, sizeof(e));
	e.e_ident[EI_CLASS] = ELFCLASS32;
	memcpy(own.bytes, &e, sizeof(e));
	cr_expect_eq(vdso_parse(own.bytes, own.size, &none, &err), -EBADMSG);
	cr_expect(strstr(err_text(err), "64 bits"), "%s", err_text(err));
}

#if defined(__x86_64__)

Test(vdso, a_beginning_that_cannot_be_moved)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	struct vdso_skew skew = {.token = 1};
	static const struct {
		const char *bytes;
		size_t size;
		const char *mechanism;
	} cases[] = {
		{"\xe8\x00\x00\x00\x00\x90\x90\x90", 8, "stub"},		   /* call */
		{"\x55\xeb\x10\x90\x90\x90\x90\x90", 8, "stub"},		   /* push; jmp */
		{"\x0f\x05\xc3\x90\x90\x90\x90\x90", 8, "stub"},		   /* syscall */
		{"\xc3\x90\x90\x90\x90\x90\x90\x90", 8, "stub"},		   /* ret */
		{"\xf3\x0f\x1e\xfa\x55\x48\x89\xe5", 8, "detour"},	   /* endbr64; push; mov */
		{"\x55\x48\x89\xe5\x41\x56\x90\x90", 8, "detour"},	   /* push; mov; push */
		{"\x48\x83\xec\x18\x55\x90\x90\x90", 8, "detour"},	   /* sub; push */
		{"\x48\x81\xec\x88\x00\x00\x00\x90", 8, "detour"},	   /* sub $0x88 */
		{"\x55\x48\x89\x7c\x24\x08\x53\x90", 8, "detour"},	   /* push; mov to stack */
	};

	own_image(&own);
	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_(vdso_patch_done) struct vdso_patch patch = {0};

		memcpy(own.bytes + own.clock_gettime.offset, cases[i].bytes, cases[i].size);
		cr_assert_eq(vdso_patch_build(&own, &skew, false, &patch, NULL), 0);
		cr_expect_str_eq(patch.mechanism, cases[i].mechanism, "case %zu: %s", i,
			patch.remark ? patch.remark : "");
		cr_expect_eq(patch.remark != NULL, strcmp(patch.mechanism, "stub") == 0);
	}
}

/* push %rbp; lea 0x1000(%rip), %r10; push %rbx: means the same address from where it was moved to. */
Test(vdso, an_address_relative_to_the_instruction)
{
	static const uint8_t begin[] = {0x55, 0x4c, 0x8d, 0x15, 0x00, 0x10, 0x00, 0x00};
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	_cleanup_(vdso_patch_done) struct vdso_patch patch = {0};
	struct vdso_skew skew = {.token = 1};
	uint32_t at, from;
	int32_t distance;
	uint8_t *found;

	own_image(&own);
	from = own.clock_gettime.offset;
	memcpy(own.bytes + from, begin, sizeof(begin));
	/* Nothing in the rest of the function looks like a jump back to its beginning. */
	memset(own.bytes + from + sizeof(begin), 0x90, own.clock_gettime.size - sizeof(begin));
	cr_assert_eq(vdso_patch_build(&own, &skew, false, &patch, NULL), 0);
	cr_assert_str_eq(patch.mechanism, "detour");
	found = memmem(patch.bytes + patch.block, patch.block_size, begin, 4);
	cr_assert_not_null(found);
	at = (uint32_t)(found - patch.bytes);
	memcpy(&distance, found + 4, 4);
	cr_expect_eq((int64_t)at + 8 + distance, (int64_t)from + 8 + 0x1000);
}

Test(vdso, no_room)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	_cleanup_(vdso_patch_done) struct vdso_patch patch = {0};
	_cleanup_err_ struct err *err = NULL;
	struct vdso_skew skew = {.token = 1};

	own_image(&own);
	own.padding = own.size - 64;
	cr_expect_eq(vdso_patch_build(&own, &skew, false, &patch, &err), -EOPNOTSUPP);
	cr_expect(strstr(err_text(err), "64 bytes of padding"), "%s", err_text(err));
}

/* What a child saw: it reads only when asked, so nobody is in its vDSO while it is written. */
struct reading {
	int64_t before[VDSO_CLOCKS], skewed[VDSO_CLOCKS], day_us, day_alone_us;
	time_t seconds, seconds_by_pointer;
	int bad_clock, bad_errno, zone;
};

static int64_t raw_ns(clockid_t id)
{
	struct timespec t = {0};

	syscall(SYS_clock_gettime, id, &t);
	return t.tv_sec * (int64_t)NS_PER_S + t.tv_nsec;
}

static void read_all(struct reading *ret)
{
	struct timespec t;
	struct timeval day;
	struct timezone zone = {-1, -1};

	for (clockid_t i = 0; i < VDSO_CLOCKS; i++) {
		ret->before[i] = raw_ns(i);
		t = (struct timespec){0};
		clock_gettime(i, &t);
		ret->skewed[i] = t.tv_sec * (int64_t)NS_PER_S + t.tv_nsec;
		if (t.tv_nsec < 0 || t.tv_nsec >= 1000000000)
			_exit(1);
	}
	gettimeofday(&day, (void *)&zone);
	ret->day_us = day.tv_sec * 1000000LL + day.tv_usec;
	ret->zone = zone.tz_minuteswest;
	gettimeofday(&day, NULL);
	ret->day_alone_us = day.tv_sec * 1000000LL + day.tv_usec;
	ret->seconds = time(NULL);
	time(&ret->seconds_by_pointer);
	errno = 0;
	ret->bad_clock = clock_gettime(99, &t);
	ret->bad_errno = errno;
}

struct child {
	pid_t pid;
	int ask, answer;
};

static struct child child_start(void)
{
	int ask[2], answer[2];
	struct reading r;
	struct child c;
	char byte;

	cr_assert_eq(pipe(ask), 0);
	cr_assert_eq(pipe(answer), 0);
	c = (struct child){fork(), ask[1], answer[0]};
	if (c.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ask[1]);
		while (read(ask[0], &byte, 1) == 1) {
			memset(&r, 0, sizeof(r));
			read_all(&r);
			if (write(answer[1], &r, sizeof(r)) != sizeof(r))
				break;
		}
		_exit(0);
	}
	close(ask[0]);
	close(answer[1]);
	return c;
}

static struct reading child_read(struct child *c)
{
	struct reading r;

	cr_assert_eq(write(c->ask, "?", 1), 1);
	cr_assert_eq(read(c->answer, &r, sizeof(r)), sizeof(r), "the child is gone");
	return r;
}

static void child_end(struct child *c)
{
	int status;

	close(c->ask);
	cr_assert_eq(waitpid(c->pid, &status, 0), c->pid);
	cr_expect_eq(status, 0);
	close(c->answer);
}

static void patch_child(const struct child *c, const struct vdso_image *own,
	const struct vdso_skew *skew, bool stub)
{
	_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};
	_cleanup_(vdso_patch_done) struct vdso_patch patch = {0};
	struct vdso_block block;
	struct vdso_place place;

	usleep(20000);		/* it waits for the next question */
	cr_assert_eq(vdso_patch_build(own, skew, stub, &patch, NULL), 0);
	cr_expect_eq(strcmp(patch.mechanism, "stub") == 0, stub || patch.remark);
	cr_assert_eq(vdso_open(c->pid, own, &p, NULL), 0);
	cr_assert_eq(vdso_make(&p, patch.bytes, 0, patch.size, NULL), 0);
	cr_assert(vdso_block_of(&p, own->padding, &block));
	cr_expect_eq(block.token, skew->token);
	place = vdso_place_of(&p, c->pid);
	cr_expect(place.known && !place.inside && place.stack);
}

static void restore_child(const struct child *c, const struct vdso_image *own)
{
	_cleanup_(vdso_close) struct vdso_process p = {.fd = -1}, again = {.fd = -1};
	struct vdso_block block;

	cr_assert_eq(vdso_open(c->pid, own, &p, NULL), 0);
	cr_assert_eq(vdso_make(&p, own->bytes, 0, own->size, NULL), 0);
	cr_assert_eq(vdso_open(c->pid, own, &again, NULL), 0);
	cr_expect_eq(memcmp(again.bytes, own->bytes, own->size), 0);
	cr_expect_not(vdso_block_of(&again, own->padding, &block));
}

static struct vdso_skew skew_of(int64_t offset_ns)
{
	struct vdso_skew s = {.token = 7, .length_ns = HOUR, .offset_ns = offset_ns};

	for (size_t i = 0; i < VDSO_CLOCKS; i++)
		s.start_ns[i] = UINT64_MAX;
	s.start_ns[CLOCK_REALTIME] = s.start_ns[CLOCK_REALTIME_COARSE] = realtime_ns() - NS_PER_S;
	return s;
}

/* Between two readings lie some microseconds, or a machine that was busy. */
static void expect_near(int64_t got, int64_t wanted, const char *what)
{
	int64_t off = got - wanted;

	cr_expect(off > -50000000 && off < 2000000000, "%s: off by %ld ns", what, (long)off);
}

static void expect_skew(const struct reading *r, int64_t wanted)
{
	const int64_t second = (int64_t)NS_PER_S;

	expect_near(r->skewed[CLOCK_REALTIME], r->before[CLOCK_REALTIME] + wanted, "realtime");
	expect_near(r->skewed[CLOCK_REALTIME_COARSE], r->before[CLOCK_REALTIME] + wanted, "coarse");
	expect_near(r->day_us * 1000, r->skewed[CLOCK_REALTIME], "gettimeofday");
	expect_near(r->day_alone_us * 1000, r->day_us * 1000, "gettimeofday without a zone");
	/* time() goes by the coarse clock, which lags by a tick. */
	expect_near(r->seconds * second, (r->day_us * 1000 - 20000000) / second * second, "time");
	expect_near(r->seconds_by_pointer * second, r->seconds * second, "time by pointer");
	for (size_t i = 0; i < VDSO_CLOCKS; i++)
		if (i != CLOCK_REALTIME && i != CLOCK_REALTIME_COARSE && i != 10)
			expect_near(r->skewed[i], r->before[i], "another clock");
	cr_expect_eq(r->bad_clock, -1);
	cr_expect_eq(r->bad_errno, EINVAL);
	cr_expect_neq(r->zone, -1);
}

Test(vdso, three_functions_agree)
{
	static const int64_t offsets[] = {3600000000000, -3600000000000, 1, -1, 999999999, -999999999,
		500000000, -1500000000, 315360000000000000};
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	struct child c = child_start();
	struct reading r = child_read(&c);

	own_image(&own);
	expect_skew(&r, 0);
	for (size_t i = 0; i < 2 * ELEMENTS(offsets); i++) {
		struct vdso_skew skew = skew_of(offsets[i / 2]);

		patch_child(&c, &own, &skew, i % 2);
		r = child_read(&c);
		expect_skew(&r, offsets[i / 2]);
		restore_child(&c, &own);
		r = child_read(&c);
		expect_skew(&r, 0);
	}
	child_end(&c);
}

Test(vdso, start_and_end)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	struct vdso_skew skew = skew_of((int64_t)HOUR);
	struct child c = child_start();
	struct reading r;

	own_image(&own);
	skew.start_ns[CLOCK_REALTIME] = skew.start_ns[CLOCK_REALTIME_COARSE] =
		realtime_ns() + 600 * NS_PER_S;
	patch_child(&c, &own, &skew, false);
	r = child_read(&c);
	expect_skew(&r, 0);
	restore_child(&c, &own);
	skew = skew_of((int64_t)HOUR);
	skew.length_ns = NS_PER_S;	/* it began a second ago */
	patch_child(&c, &own, &skew, false);
	r = child_read(&c);
	expect_skew(&r, 0);
	restore_child(&c, &own);
	child_end(&c);
}

Test(vdso, one_write_ends_it)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};
	struct vdso_skew skew = skew_of((int64_t)HOUR);
	struct child c = child_start();
	struct reading r;

	own_image(&own);
	patch_child(&c, &own, &skew, false);
	r = child_read(&c);
	expect_skew(&r, (int64_t)HOUR);
	cr_assert_eq(vdso_open(c.pid, &own, &p, NULL), 0);
	cr_assert_eq(vdso_block_end(&p, own.padding, NULL), 0);
	r = child_read(&c);
	expect_skew(&r, 0);
	child_end(&c);
}

Test(vdso, drift_and_strobe)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	struct child c = child_start();
	struct vdso_skew skew;
	struct reading r;

	own_image(&own);
	for (int sign = -1; sign <= 1; sign += 2) {
		skew = skew_of(sign * 5000000000);
		skew.drift_ppm = sign * 250000;
		skew.start_ns[CLOCK_REALTIME] -= 1000 * NS_PER_S;
		skew.start_ns[CLOCK_REALTIME_COARSE] -= 1000 * NS_PER_S;
		patch_child(&c, &own, &skew, false);
		r = child_read(&c);
		expect_skew(&r, sign * (5000000000 + 250250000000));
		restore_child(&c, &own);
	}
	for (uint64_t strobes = 100; strobes < 104; strobes++) {
		skew = skew_of((int64_t)HOUR);
		skew.strobe_ns = 30 * NS_PER_S;
		skew.start_ns[CLOCK_REALTIME] = skew.start_ns[CLOCK_REALTIME_COARSE] =
			realtime_ns() - strobes * skew.strobe_ns - 10 * NS_PER_S;
		patch_child(&c, &own, &skew, false);
		r = child_read(&c);
		expect_skew(&r, strobes % 2 ? 0 : (int64_t)HOUR);
		restore_child(&c, &own);
	}
	child_end(&c);
}

Test(vdso, children_inherit_and_execs_do_not)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	struct vdso_skew skew = skew_of((int64_t)HOUR);
	pid_t pid, grandchild;
	char text[64] = "";
	int status, out[2];

	own_image(&own);
	cr_assert_eq(pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};
		_cleanup_(vdso_patch_done) struct vdso_patch patch = {0};

		/* Our own, with nobody else here to be inside of it. */
		if (vdso_patch_build(&own, &skew, false, &patch, NULL) < 0 ||
		    vdso_open(getpid(), &own, &p, NULL) < 0 ||
		    vdso_make(&p, patch.bytes, 0, patch.size, NULL) < 0)
			_exit(10);
		grandchild = fork();
		if (grandchild == 0)
			_exit(time(NULL) - raw_ns(CLOCK_REALTIME) / (int64_t)NS_PER_S > 1800 ? 0 : 11);
		waitpid(grandchild, &status, 0);
		if (status != 0)
			_exit(WEXITSTATUS(status));
		dup2(out[1], STDOUT_FILENO);
		execlp("date", "date", "+%s", NULL);
		_exit(12);
	}
	waitpid(pid, &status, 0);
	cr_expect_eq(status, 0, "status %d", WEXITSTATUS(status));
	cr_assert_gt(read(out[0], text, sizeof(text) - 1), 0);
	cr_expect_lt(labs(atol(text) - raw_ns(CLOCK_REALTIME) / (int64_t)NS_PER_S), 1800, "%s", text);
	close(out[0]);
	close(out[1]);
}

#endif

#if defined(__x86_64__)

/* pause(2) for ever, as a program of 32 bits; int $0x80. */
static const uint8_t code32[] = {0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7};

static int program32(void)
{
	const uint32_t address = 0x10000;
	Elf32_Ehdr e = {.e_type = ET_EXEC, .e_machine = EM_386, .e_version = EV_CURRENT,
		.e_phoff = sizeof(e), .e_ehsize = sizeof(e), .e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = 1, .e_entry = address + sizeof(e) + sizeof(Elf32_Phdr)};
	Elf32_Phdr p = {.p_type = PT_LOAD, .p_vaddr = address, .p_flags = PF_R | PF_X,
		.p_filesz = sizeof(e) + sizeof(p) + sizeof(code32), .p_align = 0x1000};
	int fd = memfd_create("program32", 0);

	memcpy(e.e_ident, ELFMAG, SELFMAG);
	e.e_ident[EI_CLASS] = ELFCLASS32;
	e.e_ident[EI_DATA] = ELFDATA2LSB;
	e.e_ident[EI_VERSION] = EV_CURRENT;
	p.p_memsz = p.p_filesz;
	cr_assert_eq(write(fd, &e, sizeof(e)), sizeof(e));
	cr_assert_eq(write(fd, &p, sizeof(p)), sizeof(p));
	cr_assert_eq(write(fd, code32, sizeof(code32)), sizeof(code32));
	return fd;
}

Test(vdso, a_program_of_32_bits)
{
	char *const argv[] = {(char *)"program32", NULL};
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};
	_cleanup_err_ struct err *err = NULL;
	int fd = program32(), r = 0;
	pid_t pid = fork();

	own_image(&own);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fexecve(fd, argv, argv + 1);
		pause();
	}
	for (int i = 0; i < 200 && r == 0; i++) {	/* until it is the other program */
		usleep(10000);
		vdso_close(&p);
		r = vdso_open(pid, &own, &p, &err);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd);
	if (r == 0)
		cr_skip_test("this kernel runs no programs of 32 bits");
	cr_expect(r == -EMEDIUMTYPE || r == -ENOENT, "%s", err_text(err));
}

Test(vdso, a_process_that_unmapped_it)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};
	int ready[2];
	pid_t pid;
	char byte;

	own_image(&own);
	cr_assert_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		byte = munmap((void *)getauxval(AT_SYSINFO_EHDR), own.size) == 0;
		(void)!write(ready[1], &byte, 1);
		for (;;)
			pause();
	}
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	if (byte)	/* some kernels seal it */
		cr_expect_eq(vdso_open(pid, &own, &p, NULL), -ENOENT);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(ready[0]);
	close(ready[1]);
}

#endif

Test(vdso, processes_without_one)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};
	pid_t pid = fork();

	own_image(&own);
	if (pid == 0)
		_exit(0);
	while (waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT) < 0)
		;
	cr_expect_eq(vdso_open(pid, &own, &p, NULL), -ESRCH, "a zombie");
	waitpid(pid, NULL, 0);
	cr_expect_eq(vdso_open(pid, &own, &p, NULL), -ESRCH, "gone");
	if (geteuid() == 0)
		cr_expect_eq(vdso_open(2, &own, &p, NULL), -ESRCH, "a kernel thread, or nobody");
}
