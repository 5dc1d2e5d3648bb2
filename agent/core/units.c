#include "core/units.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "core/clock.h"

typedef unsigned __int128 wide;

struct unit {
	const char *name;
	uint64_t factor;
};

/* More digits than this after the point are refused rather than dropped. */
#define FRACTION_DIGITS_MAX 18

struct decimal {
	uint64_t whole;
	uint64_t fraction;	/* of scale */
	uint64_t scale;		/* 10^digits */
};

/* Reads DIGITS[.DIGITS] and moves *s behind it. */
static int decimal_read(const char **s, struct decimal *ret)
{
	struct decimal d = {.scale = 1};
	const char *p = *s;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(d.whole, 10, &d.whole) ||
			__builtin_add_overflow(d.whole, (uint64_t)(*p - '0'), &d.whole))
			return -ERANGE;
	if (*p == '.') {
		const char *end = ++p;

		while (isdigit((unsigned char)*end))
			end++;
		*s = end;
		if (end == p)
			return -EINVAL;
		while (end > p && end[-1] == '0')
			end--;
		if (end - p > FRACTION_DIGITS_MAX)
			return -ERANGE;
		for (; p < end; p++) {
			d.fraction = d.fraction * 10 + (uint64_t)(*p - '0');
			d.scale *= 10;
		}
	} else {
		*s = p;
	}
	*ret = d;
	return 0;
}

/* d * factor in whole base units. A rest is rounded to the nearest, or refused (-EDOM) if exact or if
 * nothing would be left. */
static int decimal_scale(const struct decimal *d, uint64_t factor, bool exact, uint64_t *ret)
{
	wide part = (wide)d->fraction * factor;
	wide value = (wide)d->whole * factor + part / d->scale;
	wide rest = part % d->scale;

	if (rest && exact)
		return -EDOM;
	if (rest * 2 >= d->scale)
		value++;
	if (value == 0 && (d->fraction || d->whole))
		return -EDOM;
	if (value > UINT64_MAX)
		return -ERANGE;
	*ret = (uint64_t)value;
	return 0;
}

/* Ends the words of a failure: why, then what is allowed. */
static int refuse(struct err **err, int why, const char *s, const char *what, const char *finest,
	const char *allowed)
{
	if (!s)
		return err_set(err, -EINVAL, "%s is missing: %s", what, allowed);
	if (why == -ERANGE)
		return err_set(err, -EINVAL, "\"%.64s\" is too large for %s", s, what);
	if (why == -EDOM)
		return err_set(err, -EINVAL, "\"%.64s\" is finer than %s", s, finest);
	return err_set(err, -EINVAL, "\"%.64s\" is not %s: %s", s, what, allowed);
}

/* Descending, so that "1h30m" can be held to its order. */
static const struct unit duration_units[] = {
	{"h", 3600 * NS_PER_S}, {"m", 60 * NS_PER_S}, {"s", NS_PER_S},
	{"ms", NS_PER_MS}, {"us", NS_PER_US}, {"ns", 1},
};

static size_t word_length(const char *p)
{
	size_t n = 0;

	while (isalpha((unsigned char)p[n]) || p[n] == '/' || p[n] == '%')
		n++;
	return n;
}

static int unit_find(const struct unit *units, size_t n, const char *p, size_t length)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(units[i].name) == length && memcmp(units[i].name, p, length) == 0)
			return (int)i;
	return -EINVAL;
}

static int duration_read(const char *s, uint64_t *ret)
{
	uint64_t sum = 0;
	int last = -1;

	if (strcmp(s, "0") == 0) {
		*ret = 0;
		return 0;
	}
	while (true) {
		struct decimal d;
		uint64_t part;
		size_t length;
		int i, r;

		r = decimal_read(&s, &d);
		if (r < 0)
			return r;
		length = word_length(s);
		i = unit_find(duration_units, ELEMENTS(duration_units), s, length);
		if (i <= last)
			return -EINVAL;
		s += length;
		if (*s && d.scale != 1)
			return -EINVAL;
		r = decimal_scale(&d, duration_units[i].factor, true, &part);
		if (r < 0)
			return r;
		if (__builtin_add_overflow(sum, part, &sum))
			return -ERANGE;
		if (!*s)
			break;
		last = i;
	}
	*ret = sum;
	return 0;
}

int duration_parse(const char *s, uint64_t *ret_ns, struct err **err)
{
	int r = s ? duration_read(s, ret_ns) : -EINVAL;

	if (r < 0)
		return refuse(err, r, s, "a duration", "1ns",
			"a number with ns, us, ms, s, m or h, such as 20ms, 0.5s or 1h30m");
	return 0;
}

static const struct unit byte_units[] = {
	{"B", 1}, {"", 1}, {"KB", 1000}, {"kB", 1000}, {"MB", 1000000}, {"GB", 1000000000},
	{"TB", 1000000000000}, {"KiB", 1ULL << 10}, {"MiB", 1ULL << 20}, {"GiB", 1ULL << 30},
	{"TiB", 1ULL << 40},
};

static const struct unit rate_units[] = {
	{"bit", 1}, {"kbit", 1000}, {"mbit", 1000000}, {"gbit", 1000000000},
	{"B/s", 8}, {"kB/s", 8000}, {"KB/s", 8000}, {"MB/s", 8000000}, {"GB/s", 8000000000},
	{"KiB/s", 8ULL << 10}, {"MiB/s", 8ULL << 20}, {"GiB/s", 8ULL << 30},
};

/* The first so many are what a rate is written in. */
#define RATE_UNITS_DECIMAL 4

#define PERCENT_PPM 1000000U	/* 100 % */

static const struct unit percent_units[] = {{"", 10000}, {"%", 10000}};

static int single_read(const char *s, const struct unit *units, size_t n, bool exact, uint64_t *ret)
{
	struct decimal d;
	int i, r;

	r = decimal_read(&s, &d);
	if (r < 0)
		return r;
	i = unit_find(units, n, s, strlen(s));
	if (i < 0)
		return i;
	return decimal_scale(&d, units[i].factor, exact, ret);
}

int bytes_parse(const char *s, uint64_t *ret_bytes, struct err **err)
{
	int r = s ? single_read(s, byte_units, ELEMENTS(byte_units), false, ret_bytes) : -EINVAL;

	if (r < 0)
		return refuse(err, r, s, "an amount of bytes", "one byte",
			"a number, alone or with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB");
	return 0;
}

int rate_parse(const char *s, uint64_t *ret_bits_per_s, struct err **err)
{
	int r = s ? single_read(s, rate_units, ELEMENTS(rate_units), false, ret_bits_per_s)
		  : -EINVAL;

	if (r < 0)
		return refuse(err, r, s, "a rate", "one bit a second",
			"a number with bit, kbit, mbit or gbit (bits a second), or with B/s, kB/s, "
			"MB/s, GB/s, KiB/s, MiB/s or GiB/s");
	return 0;
}

int percent_parse_to(const char *s, uint32_t max_ppm, uint32_t *ret_ppm, struct err **err)
{
	uint64_t ppm;
	int r;

	r = s ? single_read(s, percent_units, ELEMENTS(percent_units), true, &ppm) : -EINVAL;
	if (r == -ERANGE || (r == 0 && ppm > max_ppm))
		return err_set(err, -EINVAL, "\"%.64s\" is above %" PRIu32 "%%", s, max_ppm / 10000);
	if (r < 0)
		return refuse(err, r, s, "a percentage", "0.0001%",
			max_ppm == PERCENT_PPM ? "a number from 0 to 100 with %, such as 12.5%" :
						 "a number with %, such as 12.5%");
	*ret_ppm = (uint32_t)ppm;
	return 0;
}

int percent_parse(const char *s, uint32_t *ret_ppm, struct err **err)
{
	return percent_parse_to(s, PERCENT_PPM, ret_ppm, err);
}

int count_parse(const char *s, uint64_t min, uint64_t max, uint64_t *ret, struct err **err)
{
	struct decimal d = {0};
	const char *p = s;
	int r = -EINVAL;

	if (s && !strchr(s, '.')) {
		r = decimal_read(&p, &d);
		if (r == 0 && *p)
			r = -EINVAL;
	}
	if (r == 0 && (d.whole < min || d.whole > max))
		r = -ERANGE;
	if (r == -ERANGE)
		return err_set(err, -EINVAL, "%.64s is not from %" PRIu64 " to %" PRIu64, s, min, max);
	if (r < 0)
		return err_set(err, -EINVAL,
			"\"%.64s\" is not a whole number from %" PRIu64 " to %" PRIu64, s ? s : "",
			min, max);
	*ret = d.whole;
	return 0;
}

/* value / factor as a decimal, if it ends within `digits` places; else false. */
static bool decimal_write(uint64_t value, uint64_t factor, unsigned digits, const char *unit,
	char buf[static UNITS_TEXT_MAX])
{
	uint64_t rest = value % factor;
	char fraction[FRACTION_DIGITS_MAX + 1];
	unsigned n = 0;

	while (rest && n < digits) {
		wide next = (wide)rest * 10;

		fraction[n++] = (char)('0' + (int)(next / factor));
		rest = (uint64_t)(next % factor);
	}
	if (rest)
		return false;
	fraction[n] = '\0';
	snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 "%s%s%s", value / factor, n ? "." : "", fraction,
		unit);
	return true;
}

char *duration_format(uint64_t ns, char buf[static UNITS_TEXT_MAX])
{
	uint64_t hours = ns / (3600 * NS_PER_S), minutes = ns / (60 * NS_PER_S) % 60;
	uint64_t rest = ns % (60 * NS_PER_S);
	char seconds[UNITS_TEXT_MAX] = "";
	size_t i = 2;

	if (ns == 0)
		return strcpy(buf, "0");
	if (ns < 60 * NS_PER_S) {
		while (ns < duration_units[i].factor)
			i++;
		decimal_write(ns, duration_units[i].factor, 9, duration_units[i].name, buf);
		return buf;
	}
	if (rest)
		decimal_write(rest, NS_PER_S, 9, "s", seconds);
	buf[0] = '\0';
	if (hours)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 "h", hours);
	if (minutes) {
		size_t used = strlen(buf);

		snprintf(buf + used, UNITS_TEXT_MAX - used, "%" PRIu64 "m", minutes);
	}
	strncat(buf, seconds, UNITS_TEXT_MAX - strlen(buf) - 1);
	return buf;
}

/* The shortest of the exact ways to say it; the later unit where two are as short. */
static char *shortest(uint64_t value, const struct unit *units, size_t n,
	char buf[static UNITS_TEXT_MAX])
{
	char candidate[UNITS_TEXT_MAX];
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < n; i++) {
		if (units[i].factor > 1 && value < units[i].factor)
			continue;
		if (!decimal_write(value, units[i].factor, 3, units[i].name, candidate))
			continue;
		if (strlen(candidate) <= best) {
			best = strlen(candidate);
			strcpy(buf, candidate);
		}
	}
	return buf;
}

char *bytes_format(uint64_t bytes, char buf[static UNITS_TEXT_MAX])
{
	return shortest(bytes, byte_units, ELEMENTS(byte_units), buf);
}

char *rate_format(uint64_t bits_per_s, char buf[static UNITS_TEXT_MAX])
{
	return shortest(bits_per_s, rate_units, RATE_UNITS_DECIMAL, buf);
}

char *percent_format(uint32_t ppm, char buf[static UNITS_TEXT_MAX])
{
	decimal_write(ppm, 10000, 4, "%", buf);
	return buf;
}

/* value / factor rounded to `digits` places. */
static char *rounded(uint64_t value, uint64_t factor, unsigned digits, const char *unit,
	char buf[static UNITS_TEXT_MAX])
{
	uint64_t scale = 1, tenths;

	for (unsigned i = 0; i < digits; i++)
		scale *= 10;
	tenths = (uint64_t)(((wide)value * scale + factor / 2) / factor);
	if (digits)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 ".%0*" PRIu64 " %s", tenths / scale,
			(int)digits, tenths % scale, unit);
	else
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 " %s", tenths, unit);
	return buf;
}

char *duration_human(uint64_t ns, char buf[static UNITS_TEXT_MAX])
{
	uint64_t seconds = ns / NS_PER_S + (ns % NS_PER_S >= NS_PER_S / 2);

	if (ns < NS_PER_US)
		return rounded(ns, 1, 0, "ns", buf);
	if (ns < 100 * NS_PER_US)
		return rounded(ns, NS_PER_US, 1, "us", buf);
	if (ns < NS_PER_MS - 500)
		return rounded(ns, NS_PER_US, 0, "us", buf);
	if (ns < 10 * NS_PER_MS - 5 * NS_PER_US)
		return rounded(ns, NS_PER_MS, 2, "ms", buf);
	if (ns < NS_PER_S - 50 * NS_PER_US)
		return rounded(ns, NS_PER_MS, 1, "ms", buf);
	if (seconds < 120)
		return rounded(ns, NS_PER_S, 2, "s", buf);
	if (seconds < 3600)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 " min %" PRIu64 " s", seconds / 60,
			seconds % 60);
	else
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 " h %" PRIu64 " min", seconds / 3600,
			seconds % 3600 / 60);
	return buf;
}
