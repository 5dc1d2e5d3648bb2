#include "hold/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/clock.h"

#define SLICE_NS     (20 * NS_PER_MS)
#define PAGE_SIZE    4096
#define STEP_BYTES   (1UL << 20)
#define STAT_BYTES   8192
#define AGAIN_NS     (10 * NS_PER_MS)
#define KEEP_WARM_NS NS_PER_S

static void sleep_until(uint64_t ns)
{
	const struct timespec t = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

void load_cpu(struct worker_page *page, size_t index, const void *argument)
{
	const struct load_cpu *load = argument;
	uint64_t busy = SLICE_NS / 1000000 * load->share_ppm, start = now_ns();

	(void)index;
	for (;;) {
		while (now_ns() - start < busy)
			;
		atomic_fetch_add(&page->operations, 1);
		atomic_store(&page->cpu_ns, clock_ns(CLOCK_PROCESS_CPUTIME_ID));
		start += SLICE_NS;
		/* Whoever was held back does not make up for it. */
		if (now_ns() > start)
			start = now_ns();
		else
			sleep_until(start);
	}
}

/* The number after a line's first word; 0 if there is none. */
static uint64_t stat_number(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
		if (strncmp(line, word, n) == 0 && line[n] == ' ')
			return strtoull(line + n + 1, NULL, 10);
	return 0;
}

static const char *read_stat(char text[static STAT_BYTES])
{
	ssize_t n = pread(WORKER_FD, text, STAT_BYTES - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* What the kernel cannot take back when it gets narrow: v2's words, then v1's. */
static uint64_t group_uses(void)
{
	char text[STAT_BYTES];

	read_stat(text);
	if (strstr(text, "total_rss "))
		return stat_number(text, "total_rss") + stat_number(text, "total_shmem");
	return stat_number(text, "anon") + stat_number(text, "shmem") + stat_number(text, "slab") +
	       stat_number(text, "kernel_stack") + stat_number(text, "pagetables");
}

static uint64_t group_kills(void)
{
	char text[STAT_BYTES];

	return stat_number(read_stat(text), "oom_kill");
}

struct memory {
	const struct load_memory *load;
	struct worker_page *page;
	char *map;		/* without oom */
	int fd;			/* with oom */
	uint64_t held, kills;
};

static void touch(char *from, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes; i += PAGE_SIZE)
		*(volatile char *)(from + i) = 1;
}

static bool is_narrow(const struct memory *m, uint64_t step)
{
	uint64_t limit = m->load->limit_bytes;

	if (limit == UINT64_MAX)
		return false;
	return group_uses() + step + m->load->margin_bytes > limit;
}

/* One step more; false: not now. */
static bool grow(struct memory *m, uint64_t step)
{
	static const char zeros[PAGE_SIZE];

	if (!m->load->oom) {
		if (is_narrow(m, step)) {
			atomic_fetch_or(&m->page->flags, LOAD_MEMORY_NARROW);
			return false;
		}
		touch(m->map + m->held, step);
		m->held += step;
		return true;
	}
	for (uint64_t done = 0; done < step; done += PAGE_SIZE) {
		if (pwrite(m->fd, zeros, PAGE_SIZE, (off_t)m->held) != PAGE_SIZE) {
			atomic_fetch_add(&m->page->errors, 1);
			return false;
		}
		m->held += PAGE_SIZE;
	}
	return true;
}

/* True once the kernel has killed: what is held then would only kill the next one too. */
static bool give_back_after_kill(struct memory *m)
{
	if (!m->load->oom || group_kills() <= m->kills)
		return false;
	(void)!ftruncate(m->fd, 0);
	m->held = 0;
	atomic_store(&m->page->bytes, 0);
	atomic_fetch_or(&m->page->flags, LOAD_MEMORY_KILLED);
	return true;
}

static void memory_run(struct memory *m)
{
	uint64_t start = now_ns(), rate = m->load->rate_bytes_per_s;

	while (m->held < m->load->bytes) {
		uint64_t step = m->load->bytes - m->held;
		bool grew;

		if (step > STEP_BYTES)
			step = STEP_BYTES;
		grew = grow(m, step);
		atomic_store(&m->page->bytes, m->held);
		atomic_fetch_add(&m->page->operations, grew);
		if (give_back_after_kill(m))
			return;
		if (!grew)
			sleep_until(now_ns() + AGAIN_NS);
		else if (rate)
			sleep_until(start + (uint64_t)((unsigned __int128)m->held * NS_PER_S / rate));
	}
	atomic_fetch_or(&m->page->flags, LOAD_MEMORY_REACHED);
}

void load_memory(struct worker_page *page, size_t index, const void *argument)
{
	const struct load_memory *load = argument;
	struct memory m = {.load = load, .page = page, .fd = -1};

	(void)index;
	if (load->oom) {
		m.fd = memfd_create(WORKER_NAME, MFD_CLOEXEC);
		m.kills = group_kills();
	} else {
		m.map = mmap(NULL, load->bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	}
	if (load->oom ? m.fd < 0 : m.map == MAP_FAILED) {
		atomic_store(&page->failed, (uint32_t)errno);
		return;
	}
	if (m.map)	/* to the page: a huge one would be more than was asked */
		madvise(m.map, load->bytes, MADV_NOHUGEPAGE);
	memory_run(&m);
	for (;;) {
		sleep_until(now_ns() + (load->oom ? AGAIN_NS : KEEP_WARM_NS));
		if (m.map)
			touch(m.map, m.held);	/* else it would be swapped out */
		else
			give_back_after_kill(&m);
	}
}

struct disk {
	const struct load_disk *load;
	struct worker_page *page;
	char *buffer;
	uint64_t first, blocks;		/* of this worker's part */
	uint64_t random;
};

static uint64_t next_random(struct disk *d)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return d->random;
}

static bool one(struct disk *d, uint64_t block, bool is_read)
{
	off_t at = (off_t)(d->first + block * d->load->block_bytes);
	size_t size = d->load->block_bytes;
	ssize_t n = is_read ? pread(WORKER_FD, d->buffer, size, at) : pwrite(WORKER_FD, d->buffer, size, at);

	if (n == (ssize_t)size)
		return true;
	atomic_fetch_add(&d->page->errors, 1);
	sleep_until(now_ns() + AGAIN_NS);
	return false;
}

/* Else reading it would not need the disk. */
static void prepare_to_read(struct disk *d)
{
	for (uint64_t block = 0; block < d->blocks;)
		if (one(d, block, false))
			block++;
	fdatasync(WORKER_FD);
	posix_fadvise(WORKER_FD, 0, 0, POSIX_FADV_DONTNEED);
	atomic_fetch_or(&d->page->flags, LOAD_DISK_PREPARED);
}

/* Without O_DIRECT a write is only on the disk when it was flushed. */
static bool must_flush(const struct disk *d, uint64_t count)
{
	if (d->load->pattern == LOAD_FSYNC_STORM)
		return true;
	return d->load->pattern != LOAD_READ && !(atomic_load(&d->page->flags) & LOAD_DISK_DIRECT) &&
	       count % 16 == 0;
}

static void disk_run(struct disk *d)
{
	uint64_t start = now_ns(), done = 0, rate = d->load->rate_bytes_per_s;
	bool is_read = d->load->pattern == LOAD_READ;

	for (uint64_t count = 1;; count++) {
		uint64_t block = d->load->pattern == LOAD_RANDOM || is_read ?
					 next_random(d) % d->blocks : count % d->blocks;

		if (!one(d, block, is_read))
			continue;
		if (must_flush(d, count) && fdatasync(WORKER_FD) < 0)
			atomic_fetch_add(&d->page->errors, 1);
		done += d->load->block_bytes;
		atomic_fetch_add(&d->page->operations, 1);
		atomic_store(&d->page->bytes, done);
		if (rate)
			sleep_until(start + (uint64_t)((unsigned __int128)done * NS_PER_S / rate));
		else if (is_read && !(atomic_load(&d->page->flags) & LOAD_DISK_DIRECT))
			posix_fadvise(WORKER_FD, 0, 0, POSIX_FADV_DONTNEED);
	}
}

void load_disk(struct worker_page *page, size_t index, const void *argument)
{
	const struct load_disk *load = argument;
	struct disk d = {.load = load, .page = page, .random = now_ns() | 1};
	int flags = fcntl(WORKER_FD, F_GETFL);

	d.blocks = load->size_bytes / load->block_bytes / load->workers;
	d.first = d.blocks * load->block_bytes * index;
	d.buffer = mmap(NULL, load->block_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (d.buffer == MAP_FAILED || d.blocks == 0) {
		atomic_store(&page->failed, d.blocks == 0 ? EINVAL : ENOMEM);
		return;
	}
	for (uint64_t i = 0; i < load->block_bytes; i += sizeof(uint64_t)) {
		uint64_t x = next_random(&d);

		memcpy(d.buffer + i, &x, sizeof(x));
	}
	if (flags >= 0 && fcntl(WORKER_FD, F_SETFL, flags | O_DIRECT) == 0)
		atomic_fetch_or(&page->flags, LOAD_DISK_DIRECT);
	if (load->pattern == LOAD_READ)
		prepare_to_read(&d);
	disk_run(&d);
}
