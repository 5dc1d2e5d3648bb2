/* The vDSO's ELF image (elf(5), System V ABI): nothing in it is believed. */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include "core/cleanup.h"
#include "kernel/vdso.h"

#define SYMBOLS_MAX   1024
#define PADDING_ALIGN 64
#define ENTRY_MIN     16	/* bytes of a function: room for a jump over its beginning */

struct reader {
	const uint8_t *bytes;
	size_t size;
	uint64_t bias;		/* virtual address of the image's first byte */
};

static bool take(const struct reader *r, uint64_t offset, void *ret, size_t size)
{
	if (offset > r->size || size > r->size - offset)
		return false;
	memcpy(ret, r->bytes + offset, size);
	return true;
}

struct dynamic {
	uint64_t symbols, strings, strings_size, hash;
};

static int bad(struct err **err, const char *what)
{
	return err_set(err, EBADMSG, "the vDSO's image: %s", what);
}

static int read_dynamic(const struct reader *r, uint64_t offset, uint64_t size, struct dynamic *ret,
	struct err **err)
{
	Elf64_Dyn d;

	for (uint64_t at = 0; at + sizeof(d) <= size; at += sizeof(d)) {
		if (!take(r, offset + at, &d, sizeof(d)))
			return bad(err, "its dynamic section leaves it");
		if (d.d_tag == DT_NULL)
			break;
		if (d.d_tag == DT_SYMTAB)
			ret->symbols = d.d_un.d_ptr - r->bias;
		else if (d.d_tag == DT_STRTAB)
			ret->strings = d.d_un.d_ptr - r->bias;
		else if (d.d_tag == DT_STRSZ)
			ret->strings_size = d.d_un.d_val;
		else if (d.d_tag == DT_HASH)
			ret->hash = d.d_un.d_ptr - r->bias;
	}
	if (!ret->symbols || !ret->strings || ret->strings > r->size ||
	    ret->strings_size > r->size - ret->strings)
		return bad(err, "it has no symbols");
	return 0;
}

static int read_headers(struct reader *r, struct dynamic *ret, struct err **err)
{
	Elf64_Ehdr e;
	Elf64_Phdr p, dynamic = {0};
	bool loaded = false;

	if (!take(r, 0, &e, sizeof(e)) || memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 ||
	    e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_ident[EI_DATA] != ELFDATA2LSB)
		return bad(err, "not ELF of 64 bits");
	if (e.e_phentsize != sizeof(p))
		return bad(err, "its program headers are of another size");
	for (unsigned i = 0; i < e.e_phnum && i < 64; i++) {
		if (e.e_phoff > r->size || !take(r, e.e_phoff + i * sizeof(p), &p, sizeof(p)))
			return bad(err, "its program headers leave it");
		if (p.p_type == PT_LOAD && !loaded) {
			r->bias = p.p_vaddr - p.p_offset;
			loaded = true;
		} else if (p.p_type == PT_DYNAMIC) {
			dynamic = p;
		}
	}
	if (!loaded || dynamic.p_type != PT_DYNAMIC || dynamic.p_offset > r->size)
		return bad(err, "it has no dynamic section");
	return read_dynamic(r, dynamic.p_offset, dynamic.p_filesz, ret, err);
}

/* By DT_HASH; kernels that leave it out put the strings right behind the symbols. */
static size_t count_symbols(const struct reader *r, const struct dynamic *d)
{
	uint32_t hash[2];
	size_t n = 0;

	if (d->hash && take(r, d->hash, hash, sizeof(hash)))
		n = hash[1];
	else if (d->strings > d->symbols)
		n = (d->strings - d->symbols) / sizeof(Elf64_Sym);
	return n < SYMBOLS_MAX ? n : SYMBOLS_MAX;
}

static bool is_named(const struct reader *r, const struct dynamic *d, uint32_t name, const char *wanted)
{
	size_t n = strlen(wanted) + 1;

	return name < d->strings_size && n <= d->strings_size - name &&
	       memcmp(r->bytes + d->strings + name, wanted, n) == 0;
}

static int find_symbols(const struct reader *r, const struct dynamic *d, struct vdso_image *ret,
	struct err **err)
{
	const struct {
		const char *name;
		struct vdso_symbol *symbol;
	} wanted[] = {
		{"__vdso_clock_gettime", &ret->clock_gettime},
		{"__vdso_gettimeofday", &ret->gettimeofday},
		{"__vdso_time", &ret->time},
	};
	size_t n = count_symbols(r, d);
	Elf64_Sym s;

	for (size_t i = 0; i < n; i++) {
		uint64_t offset;

		if (!take(r, d->symbols + i * sizeof(s), &s, sizeof(s)))
			return bad(err, "its symbols leave it");
		offset = s.st_value - r->bias;
		if (ELF64_ST_TYPE(s.st_info) != STT_FUNC || s.st_shndx == SHN_UNDEF ||
		    s.st_size < ENTRY_MIN || offset > r->size || s.st_size > r->size - offset)
			continue;
		for (size_t k = 0; k < ELEMENTS(wanted); k++)
			if (is_named(r, d, s.st_name, wanted[k].name))
				*wanted[k].symbol =
					(struct vdso_symbol){(uint32_t)offset, (uint32_t)s.st_size};
	}
	return ret->clock_gettime.size ? 0 : bad(err, "it has no __vdso_clock_gettime");
}

int vdso_parse(const void *bytes, size_t size, struct vdso_image *ret, struct err **err)
{
	struct reader r = {.bytes = bytes, .size = size};
	struct vdso_image image = {.size = size};
	struct dynamic d = {0};
	size_t end = size;
	int code;

	if (size == 0 || size > VDSO_SIZE_MAX)
		return bad(err, "its size is not to be believed");
	code = read_headers(&r, &d, err);
	if (code >= 0)
		code = find_symbols(&r, &d, &image, err);
	if (code < 0)
		return code;
	while (end > 0 && r.bytes[end - 1] == 0)
		end--;
	image.padding = (end + PADDING_ALIGN - 1) / PADDING_ALIGN * PADDING_ALIGN;
	if (image.padding > size)
		image.padding = size;
	image.bytes = malloc(size);
	if (!image.bytes)
		return err_errno(err, ENOMEM, "copy the vDSO's image");
	memcpy(image.bytes, bytes, size);
	*ret = image;
	return 0;
}

void vdso_image_done(struct vdso_image *i)
{
	free(i->bytes);
	*i = (struct vdso_image){0};
}
