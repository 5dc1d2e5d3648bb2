#include "kernel/elf_variable.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/proc.h"

#define HEADERS_MAX 64
#define SECTIONS_MAX 512
#define TABLE_MAX   (32UL << 20)
#define AUXV_MAX    4096

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OUR_DATA ELFDATA2LSB
#else
#define OUR_DATA ELFDATA2MSB
#endif

struct program {
	int fd;
	pid_t pid;
	Elf64_Ehdr head;
};

static int bad(const struct program *p, struct err **err, const char *what)
{
	return err_set(err, EBADMSG, "the program of process %d: %s", p->pid, what);
}

static bool read_at(int fd, uint64_t offset, void *ret, size_t size)
{
	return offset <= INT64_MAX - size && pread(fd, ret, size, (off_t)offset) == (ssize_t)size;
}

static int program_open(pid_t pid, struct program *ret, struct err **err)
{
	_cleanup_close_ int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	ret->pid = pid;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno == ENOENT ? ESRCH : errno, "open %s", path);
	if (!read_at(fd, 0, &ret->head, sizeof(ret->head)) ||
	    memcmp(ret->head.e_ident, ELFMAG, SELFMAG) != 0 ||
	    ret->head.e_ident[EI_CLASS] != ELFCLASS64 || ret->head.e_ident[EI_DATA] != OUR_DATA ||
	    ret->head.e_phentsize != sizeof(Elf64_Phdr) || ret->head.e_shentsize != sizeof(Elf64_Shdr))
		return bad(ret, err, "not ELF of 64 bits with sections");
	ret->fd = steal_fd(&fd);
	return 0;
}

/* A table of a file that may be anything; NUL-terminated. */
static char *table(const struct program *p, const Elf64_Shdr *s)
{
	_cleanup_free_ char *text = NULL;

	if (s->sh_size == 0 || s->sh_size > TABLE_MAX)
		return NULL;
	text = malloc(s->sh_size + 1);
	if (!text || !read_at(p->fd, s->sh_offset, text, s->sh_size))
		return NULL;
	text[s->sh_size] = '\0';
	return steal_ptr(text);
}

static bool section(const struct program *p, uint32_t index, Elf64_Shdr *ret)
{
	return index < p->head.e_shnum && p->head.e_shoff <= INT64_MAX &&
	       read_at(p->fd, p->head.e_shoff + (uint64_t)index * sizeof(*ret), ret, sizeof(*ret));
}

static int find_in(const struct program *p, const Elf64_Shdr *symbols, const char *name, uint64_t *ret,
	struct err **err)
{
	_cleanup_free_ char *list = NULL, *strings = NULL;
	Elf64_Shdr names;
	Elf64_Sym s;

	if (!section(p, symbols->sh_link, &names))
		return bad(p, err, "its symbols have no names");
	list = table(p, symbols);
	strings = table(p, &names);
	if (!list || !strings)
		return bad(p, err, "its symbols cannot be read");
	for (uint64_t at = 0; at + sizeof(s) <= symbols->sh_size; at += sizeof(s)) {
		memcpy(&s, list + at, sizeof(s));
		if (s.st_shndx == SHN_UNDEF || ELF64_ST_TYPE(s.st_info) != STT_OBJECT ||
		    s.st_name >= names.sh_size || strcmp(strings + s.st_name, name) != 0)
			continue;
		*ret = s.st_value;
		return 0;
	}
	return err_set(err, ENODATA, "the program of process %d exports no variable %s", p->pid, name);
}

static int find_symbol(const struct program *p, const char *name, uint64_t *ret, struct err **err)
{
	Elf64_Shdr s;

	for (uint32_t i = 0; i < p->head.e_shnum && i < SECTIONS_MAX; i++) {
		if (!section(p, i, &s))
			return bad(p, err, "its sections cannot be read");
		if (s.sh_type == SHT_DYNSYM)
			return find_in(p, &s, name, ret, err);
	}
	return err_set(err, ENODATA, "the program of process %d exports no variables", p->pid);
}

/* The address that the file gives its own program headers. */
static int headers_address(const struct program *p, uint64_t *ret, struct err **err)
{
	Elf64_Phdr h;

	for (unsigned i = 0; i < p->head.e_phnum && i < HEADERS_MAX; i++) {
		if (p->head.e_phoff > INT64_MAX ||
		    !read_at(p->fd, p->head.e_phoff + i * sizeof(h), &h, sizeof(h)))
			break;
		if (h.p_type == PT_LOAD && h.p_offset <= p->head.e_phoff &&
		    p->head.e_phoff - h.p_offset < h.p_filesz) {
			*ret = h.p_vaddr + (p->head.e_phoff - h.p_offset);
			return 0;
		}
	}
	return bad(p, err, "its headers are not loaded");
}

/* Where they are in the process. */
static int loaded_headers(pid_t pid, uint64_t *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	size_t length;
	Elf64_auxv_t a;
	int r;

	r = proc_read_file(pid, "auxv", AUXV_MAX, &text, &length, err);
	if (r < 0)
		return r;
	for (size_t at = 0; at + sizeof(a) <= length; at += sizeof(a)) {
		memcpy(&a, text + at, sizeof(a));
		if (a.a_type == AT_PHDR) {
			*ret = a.a_un.a_val;
			return 0;
		}
	}
	return err_set(err, EBADMSG, "/proc/%d/auxv does not say where the program is", pid);
}

int elf_variable(pid_t pid, const char *name, uint64_t *ret, struct err **err)
{
	struct program p = {.fd = -1};
	_cleanup_close_ int fd = -1;
	uint64_t symbol = 0, linked = 0, loaded = 0;
	int r;

	r = program_open(pid, &p, err);
	if (r < 0)
		return r;
	fd = p.fd;
	r = find_symbol(&p, name, &symbol, err);
	if (r >= 0)
		r = headers_address(&p, &linked, err);
	if (r >= 0)
		r = loaded_headers(pid, &loaded, err);
	if (r < 0)
		return r;
	*ret = symbol + (loaded - linked);
	return 0;
}
