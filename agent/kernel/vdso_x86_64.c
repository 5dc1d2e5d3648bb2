/*
 * The skew's code for x86-64 (System V ABI, AMD64; Intel SDM vol. 2 for the encodings).
 *
 * clock_gettime is entered by a jump. A detour runs the function's first instructions, which were
 * moved, and goes on behind them; what comes back is skewed. gettimeofday and time are built on that
 * one, so that all three agree. The code only reads its data; the agent alone writes there.
 */
#include "kernel/vdso_arch.h"

#if defined(__x86_64__)

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"

#define JUMP_SIZE   5
#define MOVED_MAX   24	/* room in the block: the moved instructions and a jump */
#define DRIFT_BITS  40
#define ENTRY_SIZE  8
#define STACK_WORDS 128

/* As the code below has it. */
struct data {
	struct vdso_block block;		/* 0: magic, token, length_ns */
	int64_t offset_sec, offset_nsec;	/* 24, 32: together, 0 <= nsec < 1 s */
	uint64_t varies;			/* 40: not 0: drift or strobe */
	int64_t offset_ns;			/* 48 */
	int64_t drift;				/* 56: 2^-40 */
	uint64_t strobe;			/* 64: 2^64 / the strobe; 0: none */
	uint64_t start_ns[VDSO_CLOCKS];		/* 72 */
	uint64_t fill[3];			/* 168 */
};
_Static_assert(sizeof(struct data) == 192, "the code counts on it");

extern const uint8_t vdso_skew_block[], vdso_skew_clock_gettime[], vdso_skew_gettimeofday[],
	vdso_skew_time[], vdso_skew_original[], vdso_skew_end[];

/* clang-format off */
__asm__(
"	.pushsection .rodata.vdso_skew, \"a\"\n"
"	.balign 64\n"
"	.hidden vdso_skew_block, vdso_skew_clock_gettime, vdso_skew_gettimeofday\n"
"	.hidden vdso_skew_time, vdso_skew_original, vdso_skew_end\n"
"	.globl vdso_skew_block, vdso_skew_clock_gettime, vdso_skew_gettimeofday\n"
"	.globl vdso_skew_time, vdso_skew_original, vdso_skew_end\n"
"vdso_skew_block:\n"
"	.skip 192\n"
"vdso_skew_clock_gettime:\n"		/* edi: clock, rsi: struct timespec */
"	push %rdi\n"
"	push %rsi\n"
"	sub $8, %rsp\n"
"	call vdso_skew_original\n"
"	movq $0, -8(%rsp)\n"		/* no stale way back, which vdso_arch_returns_to() would take for one */
"	add $8, %rsp\n"
"	pop %rsi\n"
"	pop %rdi\n"
"	test %eax, %eax\n"
"	jnz 9f\n"
"	cmp $12, %edi\n"
"	jae 9f\n"
"	mov %edi, %edi\n"
"	lea vdso_skew_block(%rip), %r8\n"
"	mov (%rsi), %rax\n"
"	mov 8(%rsi), %rdx\n"
"	imul $1000000000, %rax, %rcx\n"
"	add %rdx, %rcx\n"
"	mov %rcx, %r9\n"
"	sub 72(%r8,%rdi,8), %r9\n"	/* r9: since the start */
"	cmp 16(%r8), %r9\n"
"	jae 8f\n"
"	cmpq $0, 40(%r8)\n"
"	jne 3f\n"
"	add 32(%r8), %rdx\n"
"	add 24(%r8), %rax\n"
"	cmp $1000000000, %rdx\n"
"	jb 2f\n"
"	sub $1000000000, %rdx\n"
"	inc %rax\n"
"2:	mov %rax, (%rsi)\n"
"	mov %rdx, 8(%rsi)\n"
"	xor %eax, %eax\n"
"	ret\n"
"3:	mov 64(%r8), %rax\n"
"	mul %r9\n"
"	test $1, %dl\n"			/* rdx: how many strobes ago the start is */
"	jnz 8f\n"
"	mov %r9, %rax\n"
"	imulq 56(%r8)\n"
"	shrd $40, %rdx, %rax\n"
"	add 48(%r8), %rax\n"
"	add %rax, %rcx\n"
"	movabs $0x44b82fa09b5a53, %rdx\n"	/* rcx / 10^9 as (rcx >> 9) * 2^75 / 5^9 >> 75 */
"	mov %rcx, %rax\n"
"	shr $9, %rax\n"
"	mul %rdx\n"
"	shr $11, %rdx\n"
"	mov %rdx, (%rsi)\n"
"	imul $1000000000, %rdx, %rdx\n"
"	sub %rdx, %rcx\n"
"	mov %rcx, 8(%rsi)\n"
"8:	xor %eax, %eax\n"
"9:	ret\n"
"	.balign 16\n"
"vdso_skew_gettimeofday:\n"		/* rdi: struct timeval or NULL, rsi: struct timezone or NULL */
"	push %rsi\n"
"	push %rdi\n"
"	sub $8, %rsp\n"
"	test %rdi, %rdi\n"
"	jz 1f\n"
"	mov %rdi, %rsi\n"
"	xor %edi, %edi\n"
"	call vdso_skew_clock_gettime\n"
"	movq $0, -8(%rsp)\n"
"	mov 8(%rsp), %rdi\n"
"	mov 8(%rdi), %eax\n"
"	imul $0x10624dd3, %rax, %rax\n"	/* / 1000 */
"	shr $38, %rax\n"
"	mov %rax, 8(%rdi)\n"
"1:	xor %eax, %eax\n"
"	mov 16(%rsp), %rsi\n"
"	test %rsi, %rsi\n"
"	jz 2f\n"
"	xor %edi, %edi\n"
"	mov $96, %eax\n"			/* gettimeofday(2) for the zone alone */
"	syscall\n"
"2:	add $24, %rsp\n"
"	ret\n"
"	.balign 16\n"
"vdso_skew_time:\n"			/* rdi: time_t or NULL */
"	push %rdi\n"
"	sub $16, %rsp\n"
"	mov $5, %edi\n"				/* CLOCK_REALTIME_COARSE, as time() has it */
"	mov %rsp, %rsi\n"
"	call vdso_skew_clock_gettime\n"
"	movq $0, -8(%rsp)\n"
"	mov (%rsp), %rax\n"
"	add $16, %rsp\n"
"	pop %rdi\n"
"	test %rdi, %rdi\n"
"	jz 1f\n"
"	mov %rax, (%rdi)\n"
"1:	ret\n"
"	.balign 16\n"
"vdso_skew_original:\n"			/* the stub; a detour is written over it */
"	mov $228, %eax\n"			/* clock_gettime(2) */
"	syscall\n"
"	ret\n"
"	.skip 24 - (. - vdso_skew_original)\n"
"vdso_skew_end:\n"
"	.popsection\n");
/* clang-format on */

/* One instruction, as far as beginnings of functions need them. */
struct instruction {
	unsigned length;
	int relative;		/* where its RIP-relative displacement is; 0: it has none */
	bool moves_stack;	/* no loop can jump back before it */
};

/* ModRM, SIB and displacement from b[at] on; returns the place behind, 0: cut off. */
static unsigned operand_end(const uint8_t *b, unsigned at, unsigned room, struct instruction *i)
{
	unsigned mod, rm;

	if (at + 2 > room)
		return 0;
	mod = b[at] >> 6;
	rm = b[at] & 7;
	if (mod == 3)
		return at + 1;
	if (mod == 0 && rm == 5) {
		i->relative = (int)at + 1;
		return at + 5;
	}
	if (rm == 4) {
		at++;
		if (mod == 0 && (b[at] & 7) == 5)
			return at + 5;
	}
	return at + 1 + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

/* Moves of %rsp: sub $, and $, mov %rsp,%rbp. */
static bool is_stack(uint8_t opcode, uint8_t modrm, bool rex_b)
{
	if (opcode == 0x81 || opcode == 0x83)
		return (modrm == 0xec || modrm == 0xe4) && !rex_b;
	return opcode == 0x89 && modrm == 0xe5 && !rex_b;
}

/* False: unknown, or nothing that may be moved (a jump, a call, a return). */
static bool decode(const uint8_t *b, unsigned room, struct instruction *ret)
{
	struct instruction i = {0};
	unsigned at = 0, end;
	uint8_t rex = 0, opcode;

	if (room >= 4 && memcmp(b, "\xf3\x0f\x1e\xfa", 4) == 0) {	/* endbr64 */
		*ret = (struct instruction){.length = 4};
		return true;
	}
	if (room < 2)
		return false;
	if ((b[0] & 0xf0) == 0x40)
		rex = b[at++];
	opcode = b[at++];
	if ((opcode & 0xf8) == 0x50 || opcode == 0x90) {	/* push, nop */
		*ret = (struct instruction){.length = at, .moves_stack = opcode != 0x90};
		return true;
	}
	switch (opcode) {
	case 0x01: case 0x03: case 0x09: case 0x0b: case 0x21: case 0x23: case 0x29: case 0x2b:
	case 0x31: case 0x33: case 0x39: case 0x3b: case 0x63: case 0x85: case 0x89: case 0x8b:
	case 0x8d:					/* add or and sub xor cmp movsxd test mov lea */
		end = operand_end(b, at, room, &i);
		break;
	case 0x83: case 0xc1:				/* op $imm8; shift */
		end = operand_end(b, at, room, &i);
		end += end ? 1 : 0;
		break;
	case 0x81: case 0xc7:				/* op $imm32; mov $imm32 */
		end = operand_end(b, at, room, &i);
		end += end ? 4 : 0;
		break;
	default:
		if ((opcode & 0xf8) != 0xb8 || (rex & 8))
			return false;
		end = at + 4;				/* mov $imm32, %reg */
	}
	if (end == 0 || end > room)
		return false;
	i.length = end;
	i.moves_stack = end > at && is_stack(opcode, b[at], rex & 1);
	*ret = i;
	return true;
}

static void put32(uint8_t *at, int64_t value)
{
	int32_t v = (int32_t)value;

	memcpy(at, &v, sizeof(v));
}

/* Could something in the function be a jump to one of (from, to)? Looks at every byte as if an
 * instruction began there, so it may say yes where there is none. */
static bool may_jump_between(const uint8_t *b, struct vdso_symbol f, uint32_t from, uint32_t to)
{
	for (uint32_t at = f.offset; at + 2 <= f.offset + f.size; at++) {
		bool is_short = b[at] == 0xeb || (b[at] & 0xf0) == 0x70;
		int64_t target = (int64_t)at + 2 + (int8_t)b[at + 1];
		int32_t far;

		if (is_short && target > from && target < to)
			return true;
		if (at + 6 > f.offset + f.size)
			continue;
		if (b[at] == 0x0f && (b[at + 1] & 0xf0) == 0x80) {
			memcpy(&far, b + at + 2, 4);
			target = (int64_t)at + 6 + far;
		} else if (b[at] == 0xe9) {
			memcpy(&far, b + at + 1, 4);
			target = (int64_t)at + 5 + far;
		} else {
			continue;
		}
		if (target > from && target < to)
			return true;
	}
	return false;
}

/* Moves the first instructions of clock_gettime to `at` of the patch; how many bytes, 0: cannot. */
static uint32_t move_beginning(const struct vdso_image *image, uint8_t *patch, uint32_t at,
	const char **ret_remark)
{
	struct vdso_symbol f = image->clock_gettime;
	const uint8_t *from = image->bytes + f.offset;
	uint32_t moved = 0;
	struct instruction i = {0};

	while (moved < JUMP_SIZE) {
		if (!decode(from + moved, f.size - moved, &i)) {
			*ret_remark = "the function begins with an instruction that cannot be moved";
			return 0;
		}
		if (moved + i.length + JUMP_SIZE > MOVED_MAX)
			return 0;
		memcpy(patch + at + moved, from + moved, i.length);
		if (i.relative) {
			int32_t distance;

			memcpy(&distance, from + moved + i.relative, 4);
			put32(patch + at + moved + i.relative,
				(int64_t)distance + (int64_t)f.offset - (int64_t)at);
		}
		moved += i.length;
	}
	if (!i.moves_stack && may_jump_between(image->bytes, f, f.offset, f.offset + moved)) {
		*ret_remark = "something may jump to the function's first instructions";
		return 0;
	}
	return moved;
}

static void jump(uint8_t *bytes, uint32_t from, uint32_t to)
{
	bytes[from] = 0xe9;
	put32(bytes + from + 1, (int64_t)to - ((int64_t)from + JUMP_SIZE));
}

static struct data data_of(const struct vdso_skew *s)
{
	const int64_t second = (int64_t)NS_PER_S;
	struct data d = {
		.block = {VDSO_MAGIC, s->token, s->length_ns},
		.offset_sec = s->offset_ns / second,
		.offset_nsec = s->offset_ns % second,
		.varies = s->drift_ppm || s->strobe_ns,
		.offset_ns = s->offset_ns,
		.drift = (int64_t)(s->drift_ppm * ((__int128)1 << DRIFT_BITS) / 1000000),
		.strobe = s->strobe_ns > 1 ? UINT64_MAX / s->strobe_ns : 0,
	};

	if (d.offset_nsec < 0) {
		d.offset_nsec += second;
		d.offset_sec--;
	}
	/* 2^63: whatever the clock says, that is longer ago than any length. */
	for (size_t i = 0; i < VDSO_CLOCKS; i++)
		d.start_ns[i] = s->start_ns[i] == UINT64_MAX ? 1ULL << 63 : s->start_ns[i];
	return d;
}

int vdso_arch_patch(const struct vdso_image *image, const struct vdso_skew *skew, bool stub,
	struct vdso_patch *ret, struct err **err)
{
	const size_t size = (size_t)(vdso_skew_end - vdso_skew_block);
	uint32_t block = (uint32_t)image->padding, original, moved = 0;
	struct data d = data_of(skew);

	if (image->size - image->padding < size)
		return err_set(err, EOPNOTSUPP, "the vDSO has %zu bytes of padding, %zu are needed",
			image->size - image->padding, size);
	original = block + (uint32_t)(vdso_skew_original - vdso_skew_block);
	memcpy(ret->bytes + block, vdso_skew_block, size);
	memcpy(ret->bytes + block, &d, sizeof(d));
	if (!stub)
		moved = move_beginning(image, ret->bytes, original, &ret->remark);
	if (moved)
		jump(ret->bytes, original + moved, image->clock_gettime.offset + moved);
	else
		memcpy(ret->bytes + original, vdso_skew_original,
			(size_t)(vdso_skew_end - vdso_skew_original));
	jump(ret->bytes, image->clock_gettime.offset,
		block + (uint32_t)(vdso_skew_clock_gettime - vdso_skew_block));
	if (image->gettimeofday.size)
		jump(ret->bytes, image->gettimeofday.offset,
			block + (uint32_t)(vdso_skew_gettimeofday - vdso_skew_block));
	if (image->time.size)
		jump(ret->bytes, image->time.offset,
			block + (uint32_t)(vdso_skew_time - vdso_skew_block));
	ret->block_size = size;
	ret->mechanism = moved ? "detour" : "stub";
	return 0;
}

uint32_t vdso_arch_entry_size(void)
{
	return ENTRY_SIZE;
}

/* In the functions' own code the way back is on the stack, which they use little of. */
bool vdso_arch_returns_to(const struct vdso_process *p, const struct vdso_place *place, uint64_t from,
	uint64_t to)
{
	uint64_t words[STACK_WORDS];
	ssize_t n;

	n = pread(p->fd, words, sizeof(words), (off_t)place->stack);
	if (n < 0)
		return true;
	for (size_t i = 0; i < (size_t)n / sizeof(words[0]); i++)
		if (words[i] >= from && words[i] < to)
			return true;
	return false;
}

#endif
