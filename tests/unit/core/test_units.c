#include <criterion/criterion.h>
#include <string.h>
#include "core/clock.h"
#include "core/units.h"

typedef int (*parser)(const char *s, uint64_t *ret, struct err **err);

struct good {
	const char *text;
	uint64_t value;
};

#define UNTOUCHED 0xdeadbeefcafef00dULL

static void all_good(parser parse, const struct good *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_err_ struct err *e = NULL;
		uint64_t value = UNTOUCHED;

		cr_assert_eq(parse(table[i].text, &value, &e), 0, "%s: %s", table[i].text,
			err_text(e));
		cr_assert_eq(value, table[i].value, "%s: got %lu", table[i].text, value);
	}
}

static void all_bad(parser parse, const char *const *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_err_ struct err *e = NULL;
		uint64_t value = UNTOUCHED;

		cr_assert_eq(parse(table[i], &value, &e), -EINVAL, "\"%s\" was taken as %lu",
			table[i], value);
		cr_assert_eq(value, UNTOUCHED, "%s touched the result", table[i]);
		cr_assert_not_null(e);
		cr_assert_gt(strlen(err_text(e)), 10);
		/* Without anywhere to put the words too. */
		cr_assert_eq(parse(table[i], &value, NULL), -EINVAL);
	}
}

static int percent64(const char *s, uint64_t *ret, struct err **err)
{
	uint32_t ppm = 0xdeadbeef;
	int r = percent_parse(s, &ppm, err);

	if (r == 0)
		*ret = ppm;
	else
		cr_assert_eq(ppm, 0xdeadbeef);
	return r;
}

static int count_any(const char *s, uint64_t *ret, struct err **err)
{
	return count_parse(s, 0, UINT64_MAX, ret, err);
}

Test(units, durations)
{
	static const struct good table[] = {
		{"0", 0}, {"0s", 0}, {"0.0ms", 0}, {"1ns", 1}, {"100ns", 100}, {"250us", 250000},
		{"0.5ms", 500000}, {"20ms", 20000000}, {"1.5s", 1500000000}, {"2m", 120 * NS_PER_S},
		{"1h30m", 5400 * NS_PER_S}, {"1h0m0.000000001s", 3600 * NS_PER_S + 1},
		{"0.001us", 1}, {"0.1s", 100000000}, {"0.3s", 300000000}, {"1.1us", 1100},
		{"0.10000000000000000000000s", 100000000}, {"00010ms", 10000000},
		{"1s1ms1us1ns", 1001001001}, {"90m", 5400 * NS_PER_S},
		{"18446744073709551615ns", UINT64_MAX}, {"18446744073.709551615s", UINT64_MAX},
		{"5124095h34m33.709551615s", UINT64_MAX}, {"0.000000001s", 1},
	};

	all_good(duration_parse, table, ELEMENTS(table));
}

Test(units, bad_durations)
{
	static const char *const table[] = {
		NULL, "", " ", "1", "20", "00", "-1s", "+1s", " 1s", "1s ", "1 s", "1S", "1MS",
		"1sec", "1d", "ms", ".5s", "5.s", "1.2.3s", "1e3s", "0x10s", "inf", "nan", "nans",
		"1m1h", "1s1s", "1ms1s", "1.5h30m", "1h30", "1h 30m", "1,5s", "0.5ns", "0.0001us",
		"18446744073709551616ns", "18446744073.709551616s", "5124095h34m33.709551616s",
		"5124096h", "99999999999999999999999999999999h", "1s\n", "1s;", "1us\xc2\xb5",
		"1\xc2\xb5s", "0.0000000000000000000001s",
		"1234567890123456789012345678901234567890123456789012345678901234567890123456789",
	};

	all_bad(duration_parse, table, ELEMENTS(table));
}

Test(units, bytes)
{
	static const struct good table[] = {
		{"0", 0}, {"4096", 4096}, {"4096B", 4096}, {"64KiB", 65536}, {"1.5MiB", 1572864},
		{"10MB", 10000000}, {"1kB", 1000}, {"1KB", 1000}, {"2GiB", 2ULL << 30},
		{"1TiB", 1ULL << 40}, {"1TB", 1000000000000}, {"3GB", 3000000000},
		{"1.3KiB", 1331}, {"0.5KiB", 512}, {"0.0005kB", 1},
		{"18446744073709551615", UINT64_MAX}, {"16777215TiB", 16777215ULL << 40},
	};
	static const char *const bad[] = {
		NULL, "", "KiB", "-1", "1K", "1M", "1k", "1mb", "1kib", "1 KiB", "1KiB ", "1PiB",
		"0.4", "0.0004kB", "18446744073709551616", "16777216TiB", "1e3", "0x10", "1KiB/s",
		"1.KiB", "nan",
	};

	all_good(bytes_parse, table, ELEMENTS(table));
	all_bad(bytes_parse, bad, ELEMENTS(bad));
}

Test(units, rates)
{
	static const struct good table[] = {
		{"10mbit", 10000000}, {"1.3gbit", 1300000000}, {"800kbit", 800000},
		{"9600bit", 9600}, {"1MiB/s", 8388608}, {"1B/s", 8}, {"1kB/s", 8000},
		{"0bit", 0}, {"1.5MB/s", 12000000}, {"1GiB/s", 8ULL << 30}, {"1.1MiB/s", 9227469},
	};
	static const char *const bad[] = {
		NULL, "", "0", "10", "10m", "10Mbit", "10MB", "10mbit/s", "-1mbit", "mbit",
		"10mbps", "18446744073709551615kbit", "0.1bit", "10 mbit",
	};

	all_good(rate_parse, table, ELEMENTS(table));
	all_bad(rate_parse, bad, ELEMENTS(bad));
}

Test(units, percents)
{
	static const struct good table[] = {
		{"0", 0}, {"0%", 0}, {"12.5%", 125000}, {"12.5", 125000}, {"100%", 1000000},
		{"100", 1000000}, {"0.01%", 100}, {"0.0001%", 1}, {"99.9999%", 999999},
		{"33.3%", 333000}, {"100.0000000%", 1000000}, {"0.29%", 2900},
	};
	static const char *const bad[] = {
		NULL, "", "%", "-1%", "100.0001%", "101", "1000000", "0.00001%", "12.5 %", "50%%",
		"1e1%", "nan%", "18446744073709551616%", ".5%", "1844674407370956%",
	};

	all_good(percent64, table, ELEMENTS(table));
	all_bad(percent64, bad, ELEMENTS(bad));
}

Test(units, percents_above_a_hundred)
{
	_cleanup_err_ struct err *err = NULL;
	char buf[UNITS_TEXT_MAX];
	uint32_t ppm = 0;

	cr_assert_eq(percent_parse_to("250%", 100000000, &ppm, NULL), 0);
	cr_expect_eq(ppm, 2500000);
	cr_expect_str_eq(percent_format(ppm, buf), "250%");
	cr_assert_eq(percent_parse_to("10000%", 100000000, &ppm, NULL), 0);
	cr_expect_eq(ppm, 100000000);
	cr_expect_eq(percent_parse_to("10000.0001%", 100000000, &ppm, &err), -EINVAL);
	cr_expect(strstr(err_text(err), "above 10000%"), "%s", err_text(err));
	cr_expect_eq(ppm, 100000000);
}

Test(units, counts)
{
	static const struct good table[] = {
		{"0", 0}, {"7", 7}, {"007", 7}, {"18446744073709551615", UINT64_MAX},
	};
	static const char *const bad[] = {
		NULL, "", "-1", "+1", "1.0", "1.", "0x1", " 1", "1 ", "1e3",
		"18446744073709551616",
	};
	_cleanup_err_ struct err *e = NULL;
	uint64_t value = 5;

	all_good(count_any, table, ELEMENTS(table));
	all_bad(count_any, bad, ELEMENTS(bad));
	cr_assert_eq(count_parse("0", 1, 10, &value, &e), -EINVAL);
	cr_assert_str_eq(err_text(e), "0 is not from 1 to 10");
	cr_assert_eq(count_parse("11", 1, 10, &value, &e), -EINVAL);
	cr_assert_eq(value, 5);
	cr_assert_eq(count_parse("10", 1, 10, &value, &e), 0);
	cr_assert_eq(value, 10);
}

Test(units, words_say_what_was_given_and_what_is_allowed)
{
	_cleanup_err_ struct err *e = NULL;
	uint64_t value;

	duration_parse("5 parsecs", &value, &e);
	cr_assert(strstr(err_text(e), "\"5 parsecs\"") && strstr(err_text(e), "1h30m"));
	duration_parse("0.5ns", &value, &e);
	cr_assert(strstr(err_text(e), "finer than 1ns"), "%s", err_text(e));
	duration_parse("99999999h", &value, &e);
	cr_assert(strstr(err_text(e), "too large"), "%s", err_text(e));
	bytes_parse(NULL, &value, &e);
	cr_assert(strstr(err_text(e), "missing"), "%s", err_text(e));
}

/* A value of every size, from one generator, so that a failure repeats. */
static uint64_t next_value(uint64_t *state)
{
	uint64_t x;

	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	x = *state ^ (*state >> 29);
	return x >> (*state >> 58);
}

static void round_trip(parser parse, char *(*format)(uint64_t, char *), uint64_t value)
{
	_cleanup_err_ struct err *e = NULL;
	char buf[UNITS_TEXT_MAX];
	uint64_t back = ~value;

	cr_assert_eq(format(value, buf), buf);
	cr_assert_lt(strlen(buf), UNITS_TEXT_MAX);
	cr_assert_eq(parse(buf, &back, &e), 0, "%lu as %s: %s", value, buf, err_text(e));
	cr_assert_eq(back, value, "%lu as %s came back as %lu", value, buf, back);
}

static char *percent64_format(uint64_t v, char *buf)
{
	return percent_format((uint32_t)v, buf);
}

Test(units, round_trips)
{
	static const uint64_t steps[] = {1, 7, 10, 60, 1000, 1024, 3600, 1000000, 1048576,
		NS_PER_S, 60 * NS_PER_S, 3600 * NS_PER_S, 1000000000000, 1ULL << 40, 1ULL << 63};
	uint64_t state = 20240601;

	for (size_t i = 0; i < ELEMENTS(steps); i++) {
		for (uint64_t k = 0; k < 64; k++) {
			uint64_t v = steps[i] * (k / 3) + k % 3 - 1;

			round_trip(duration_parse, duration_format, v);
			round_trip(bytes_parse, bytes_format, v);
			round_trip(rate_parse, rate_format, v);
		}
	}
	for (int i = 0; i < 50000; i++) {
		uint64_t v = next_value(&state);

		round_trip(duration_parse, duration_format, v);
		round_trip(bytes_parse, bytes_format, v);
		round_trip(rate_parse, rate_format, v);
		round_trip(percent64, percent64_format, v % 1000001);
	}
	round_trip(duration_parse, duration_format, UINT64_MAX);
	round_trip(bytes_parse, bytes_format, UINT64_MAX);
	round_trip(rate_parse, rate_format, UINT64_MAX);
}

Test(units, formats_are_what_people_write)
{
	char buf[UNITS_TEXT_MAX];

	cr_assert_str_eq(duration_format(0, buf), "0");
	cr_assert_str_eq(duration_format(500000, buf), "500us");
	cr_assert_str_eq(duration_format(20 * NS_PER_MS, buf), "20ms");
	cr_assert_str_eq(duration_format(1500 * NS_PER_MS, buf), "1.5s");
	cr_assert_str_eq(duration_format(30 * NS_PER_S, buf), "30s");
	cr_assert_str_eq(duration_format(60 * NS_PER_S, buf), "1m");
	cr_assert_str_eq(duration_format(5400 * NS_PER_S, buf), "1h30m");
	cr_assert_str_eq(bytes_format(0, buf), "0");
	cr_assert_str_eq(bytes_format(65536, buf), "64KiB");
	cr_assert_str_eq(bytes_format(64ULL << 20, buf), "64MiB");
	cr_assert_str_eq(bytes_format(10000000, buf), "10MB");
	cr_assert_str_eq(bytes_format(1000, buf), "1kB");
	cr_assert_str_eq(bytes_format(777, buf), "777");
	cr_assert_str_eq(rate_format(10000000, buf), "10mbit");
	cr_assert_str_eq(rate_format(1300000000, buf), "1.3gbit");
	cr_assert_str_eq(rate_format(8388608, buf), "8388608bit");
	cr_assert_str_eq(percent_format(125000, buf), "12.5%");
	cr_assert_str_eq(percent_format(1000000, buf), "100%");
	cr_assert_str_eq(percent_format(1, buf), "0.0001%");
	cr_assert_str_eq(percent_format(0, buf), "0%");
}

Test(units, human)
{
	char buf[UNITS_TEXT_MAX];

	cr_assert_str_eq(duration_human(0, buf), "0 ns");
	cr_assert_str_eq(duration_human(999, buf), "999 ns");
	cr_assert_str_eq(duration_human(8000, buf), "8.0 us");
	cr_assert_str_eq(duration_human(350000, buf), "350 us");
	cr_assert_str_eq(duration_human(999600, buf), "1.00 ms");
	cr_assert_str_eq(duration_human(9996000, buf), "10.0 ms");
	cr_assert_str_eq(duration_human(20400000, buf), "20.4 ms");
	cr_assert_str_eq(duration_human(999960000, buf), "1.00 s");
	cr_assert_str_eq(duration_human(18620000000, buf), "18.62 s");
	cr_assert_str_eq(duration_human(125 * NS_PER_S, buf), "2 min 5 s");
	cr_assert_str_eq(duration_human(3700 * NS_PER_S, buf), "1 h 1 min");
	cr_assert_lt(strlen(duration_human(UINT64_MAX, buf)), UNITS_TEXT_MAX);
}

/* Bytes at random around the alphabet of the grammar: no crash, and what is taken can be written. */
Test(units, random_text)
{
	static const char alphabet[] = "0123456789..numsh%KMGTiBbt/ -e\xff";
	uint64_t state = 7;

	for (int i = 0; i < 200000; i++) {
		char text[12];
		size_t n = next_value(&state) % sizeof(text);
		uint64_t v;

		for (size_t k = 0; k < n; k++)
			text[k] = alphabet[next_value(&state) % (sizeof(alphabet) - 1)];
		text[n ? n - 1 : 0] = '\0';
		if (duration_parse(text, &v, NULL) == 0)
			round_trip(duration_parse, duration_format, v);
		if (bytes_parse(text, &v, NULL) == 0)
			round_trip(bytes_parse, bytes_format, v);
		if (rate_parse(text, &v, NULL) == 0)
			round_trip(rate_parse, rate_format, v);
		if (percent64(text, &v, NULL) == 0)
			round_trip(percent64, percent64_format, v);
	}
}
