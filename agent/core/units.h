/*
 * Amounts with units, as people write them. Parsing is strict: no sign, no trailing text, overflow
 * and NaN refused. Arithmetic is exact; what is finer than 1 ns or 1 ppm is refused, a fraction of a byte or
 * bit is rounded. Each parser returns 0 or -EINVAL with words that say what was given and what is
 * allowed; *ret is untouched on failure. Each formatter gives a short text that parses back to the
 * same value.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

/* "0.5ms", "20ms", "1.5s", "2m", "1h30m", "250us", "100ns", "0"; a bare number but 0 is refused. */
int duration_parse(const char *s, uint64_t *ret_ns, struct err **err);
/* "64KiB", "1.5MiB", "10MB", "4096" (bytes). */
int bytes_parse(const char *s, uint64_t *ret_bytes, struct err **err);
/* "10mbit", "1.3gbit", "800kbit", "9600bit" (bits a second, decimal), "1MiB/s" (bytes a second). */
int rate_parse(const char *s, uint64_t *ret_bits_per_s, struct err **err);
/* "12.5%", "100%", "0.01%"; a bare number is percent too. 1 % = 10,000 ppm. */
int percent_parse(const char *s, uint32_t *ret_ppm, struct err **err);
/* The same up to another most than 100 %. */
int percent_parse_to(const char *s, uint32_t max_ppm, uint32_t *ret_ppm, struct err **err);
/* Decimal, with bounds said in the error. */
int count_parse(const char *s, uint64_t min, uint64_t max, uint64_t *ret, struct err **err);

#define UNITS_TEXT_MAX 32
char *duration_format(uint64_t ns, char buf[static UNITS_TEXT_MAX]);
char *bytes_format(uint64_t bytes, char buf[static UNITS_TEXT_MAX]);
char *rate_format(uint64_t bits_per_s, char buf[static UNITS_TEXT_MAX]);
char *percent_format(uint32_t ppm, char buf[static UNITS_TEXT_MAX]);
/* For people: "18.62 s", "20.4 ms", "350 us"; does not parse back. */
char *duration_human(uint64_t ns, char buf[static UNITS_TEXT_MAX]);
