#include "kernel/vdso.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include "core/cleanup.h"
#include "kernel/proc.h"
#include "kernel/vdso_arch.h"

#define PATH_LENGTH 64
#define AUXV_MAX    4096
#define MAPS_LINE   512
/* More than a jump over the beginning of a function, less than a function. */
#define RUN_MAX	    16

/* The mapping "[vdso]" of /proc/PID/maps: "7ffd1000-7ffd3000 r-xp ... [vdso]". */
static int find_mapping(pid_t pid, uint64_t *ret, uint64_t *ret_size, struct err **err)
{
	char path[PATH_LENGTH], line[MAPS_LINE];
	_cleanup_fclose_ FILE *f = NULL;
	bool whole = true;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	if (!f)
		return err_errno(err, errno == ENOENT ? ESRCH : errno, "open %s", path);
	while (fgets(line, sizeof(line), f)) {
		size_t n = strlen(line);
		bool starts = whole;
		uint64_t start, end;

		whole = n > 0 && line[n - 1] == '\n';
		if (!starts || !whole)
			continue;
		line[n - 1] = '\0';
		if (n < 9 || strcmp(line + n - 8, " [vdso]") != 0 ||
		    sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2 || end <= start)
			continue;
		*ret = start;
		*ret_size = end - start;
		return 0;
	}
	return err_set(err, ENOENT, "process %d maps no vDSO", pid);
}

int vdso_own(struct vdso_image *ret, struct err **err)
{
	uint64_t address, size;
	int r;

	r = find_mapping(getpid(), &address, &size, err);
	if (r < 0)
		return r;
	if (size > VDSO_SIZE_MAX)
		return err_set(err, EBADMSG, "our vDSO is %" PRIu64 " bytes long", size);
	return vdso_parse((const void *)(uintptr_t)address, (size_t)size, ret, err);
}

int vdso_patch_build(const struct vdso_image *image, const struct vdso_skew *skew, bool stub,
	struct vdso_patch *ret, struct err **err)
{
	struct vdso_patch patch = {.size = image->size, .block = image->padding};
	int r;

	patch.bytes = malloc(image->size);
	if (!patch.bytes)
		return err_errno(err, ENOMEM, "copy the vDSO's image");
	memcpy(patch.bytes, image->bytes, image->size);
	r = vdso_arch_patch(image, skew, stub, &patch, err);
	if (r < 0) {
		vdso_patch_done(&patch);
		return r;
	}
	*ret = patch;
	return 0;
}

void vdso_patch_done(struct vdso_patch *p)
{
	free(p->bytes);
	*p = (struct vdso_patch){0};
}

/* AT_SYSINFO_EHDR: far cheaper than the maps of a large process. 0: it says none. -ESRCH: the process
 * has no memory. */
static int address_by_auxv(pid_t pid, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	size_t length;
	Elf64_auxv_t a;

	if (proc_read_file(pid, "auxv", AUXV_MAX, &text, &length, NULL) < 0 || length == 0)
		return -ESRCH;
	*ret = 0;
	for (size_t at = 0; at + sizeof(a) <= length; at += sizeof(a)) {
		memcpy(&a, text + at, sizeof(a));
		if (a.a_type == AT_SYSINFO_EHDR)
			*ret = a.a_un.a_val;
	}
	return 0;
}

static int mem_code(int e)
{
	return e == ENOENT || e == EIO ? ESRCH : e;
}

static int read_image(struct vdso_process *p, uint64_t address)
{
	ssize_t n = pread(p->fd, p->bytes, p->size, (off_t)address);

	if (n < 0)
		return -mem_code(errno);
	return (size_t)n == p->size ? 0 : -ESRCH;
}

/* The headers are never patched: they tell whether it is the same image as ours. */
static bool is_ours(const struct vdso_process *p, const struct vdso_image *own)
{
	return memcmp(p->bytes, own->bytes, own->clock_gettime.offset < 256 ?
			own->clock_gettime.offset : 256) == 0;
}

static int find_image(struct vdso_process *p, const struct vdso_image *own, struct err **err)
{
	uint64_t size;
	int r;

	if (p->address && read_image(p, p->address) == 0 && is_ours(p, own))
		return 0;
	/* Moved by mremap(2), of another kind, none, or gone. */
	r = find_mapping(p->pid, &p->address, &size, err);
	if (r < 0)
		return r;
	if (size == p->size) {
		r = read_image(p, p->address);
		if (r < 0)
			return err_errno(err, r, "read the vDSO of process %d", p->pid);
		if (is_ours(p, own))
			return 0;
	}
	return err_set(err, EMEDIUMTYPE, "process %d has a vDSO of another kind (a 32-bit program?)",
		p->pid);
}

int vdso_open(pid_t pid, const struct vdso_image *own, struct vdso_process *ret, struct err **err)
{
	struct vdso_process p = {.pid = pid, .fd = -1, .size = own->size};
	char path[PATH_LENGTH];
	int r;

	if (address_by_auxv(pid, &p.address) < 0)
		return err_set(err, ESRCH, "process %d is gone", pid);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	p.fd = open(path, O_RDWR | O_CLOEXEC);
	if (p.fd < 0)
		return err_errno(err, mem_code(errno), "open %s", path);
	p.bytes = malloc(p.size);
	r = p.bytes ? find_image(&p, own, err) : err_errno(err, ENOMEM, "read the vDSO");
	if (r == -ENOENT && address_by_auxv(pid, &p.address) < 0)
		r = err_set(err, ESRCH, "process %d is gone", pid);
	if (r < 0) {
		vdso_close(&p);
		return r;
	}
	*ret = p;
	return 0;
}

void vdso_close(struct vdso_process *p)
{
	free(p->bytes);
	closep(&p->fd);
	*p = (struct vdso_process){.fd = -1};
}

bool vdso_block_of(const struct vdso_process *p, size_t block, struct vdso_block *ret)
{
	struct vdso_block b;

	if (block > p->size || sizeof(b) > p->size - block)
		return false;
	memcpy(&b, p->bytes + block, sizeof(b));
	if (b.magic != VDSO_MAGIC)
		return false;
	*ret = b;
	return true;
}

/* EIO says both: that its memory is gone, and that the kernel does not let us. */
static int write_failed(const struct vdso_process *p, int code, struct err **err)
{
	char byte;

	if (code == EIO && pread(p->fd, &byte, 1, (off_t)p->address) == 1)
		return err_set(err, EACCES,
			"the kernel does not let us write into the vDSO of process %d (its parameter "
			"proc_mem.force_override)", p->pid);
	return err_errno(err, mem_code(code), "write into the vDSO of process %d", p->pid);
}

int vdso_write(struct vdso_process *p, size_t offset, const void *bytes, size_t size, struct err **err)
{
	ssize_t n;

	if (offset > p->size || size > p->size - offset)
		return err_set(err, EINVAL, "a write outside of the vDSO");
	n = pwrite(p->fd, bytes, size, (off_t)(p->address + offset));
	if (n < 0)
		return write_failed(p, errno, err);
	if ((size_t)n != size)
		return err_set(err, EIO, "write into the vDSO of process %d: %zd of %zu bytes", p->pid,
			n, size);
	memcpy(p->bytes + offset, bytes, size);
	return 0;
}

int vdso_make(struct vdso_process *p, const uint8_t *wanted, size_t from, size_t to, struct err **err)
{
	if (to > p->size)
		return err_set(err, EINVAL, "a write outside of the vDSO");
	while (from < to) {
		size_t end = from;
		int r;

		if (p->bytes[from] == wanted[from]) {
			from++;
			continue;
		}
		for (size_t i = from; i < to && i < from + RUN_MAX; i++)
			if (p->bytes[i] != wanted[i])
				end = i + 1;
		r = vdso_write(p, from, wanted + from, end - from, err);
		if (r < 0)
			return r;
		from = end;
	}
	return 0;
}

int vdso_block_end(struct vdso_process *p, size_t block, struct err **err)
{
	const uint64_t none = 0;

	return vdso_write(p, block + offsetof(struct vdso_block, length_ns), &none, sizeof(none), err);
}

/* /proc/PID/syscall: "NUMBER ARGUMENTS... SP PC", "-1 SP PC", or "running". A thread that is gone is
 * known, and outside. */
struct vdso_place vdso_place_of(const struct vdso_process *p, pid_t tid)
{
	struct vdso_place place = {.known = true, .tid = tid};
	_cleanup_free_ char *text = NULL;
	char *last, *other;
	size_t length;
	uint64_t pc;
	int r;

	r = proc_read_file(tid, "syscall", 512, &text, &length, NULL);
	if (r == -ESRCH)
		return place;
	last = r < 0 ? NULL : strrchr(text, ' ');
	place.known = last && sscanf(last, " %" SCNx64, &pc) == 1;
	if (!place.known)
		return place;
	*last = '\0';
	other = strrchr(text, ' ');
	place.known = other && sscanf(other, " %" SCNx64, &place.stack) == 1;
	place.inside = pc >= p->address && pc - p->address < p->size;
	place.offset = place.inside ? pc - p->address : 0;
	return place;
}

bool vdso_needs_entries(const struct vdso_place *place, const struct vdso_image *own)
{
	const struct vdso_symbol *const entries[] = {&own->clock_gettime, &own->gettimeofday, &own->time};

	for (size_t i = 0; i < ELEMENTS(entries) && place->inside; i++)
		if (entries[i]->size && place->offset > entries[i]->offset &&
		    place->offset < entries[i]->offset + vdso_arch_entry_size())
			return true;
	return !place->known;
}

bool vdso_needs_block(const struct vdso_process *p, const struct vdso_place *place,
	const struct vdso_image *own)
{
	if (!place->known || !place->inside)
		return !place->known;
	if (place->offset >= own->padding)
		return true;
	return vdso_arch_returns_to(p, place, p->address + own->padding, p->address + p->size);
}
