#include "core/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/json_text.h"

static void print_string(FILE *f, const char *s)
{
	const char *end = s + strlen(s);

	fputc('"', f);
	while (s < end) {
		size_t n = utf8_sequence(s, end);

		if (n == 0) {
			fputs("\xef\xbf\xbd", f);	/* U+FFFD */
			n = 1;
		} else if (*s == '"' || *s == '\\') {
			fprintf(f, "\\%c", *s);
		} else if (*s == '\n') {
			fputs("\\n", f);
		} else if (*s == '\t') {
			fputs("\\t", f);
		} else if ((unsigned char)*s < ' ' || *s == 0x7f) {
			fprintf(f, "\\u%04x", (unsigned char)*s);
		} else {
			fwrite(s, 1, n, f);
		}
		s += n;
	}
	fputc('"', f);
}

static void print_number(FILE *f, double d)
{
	char text[40];

	if (!isfinite(d)) {
		fputs("null", f);
		return;
	}
	if (d == trunc(d) && fabs(d) <= 9007199254740992.0) {
		fprintf(f, "%" PRId64, (int64_t)d);
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, d);
		if (strtod(text, NULL) == d)
			break;
	}
	fputs(text, f);
}

static void new_line(FILE *f, bool pretty, unsigned depth)
{
	if (pretty)
		fprintf(f, "\n%*s", (int)depth * 2, "");
}

/* A row of numbers stays on its line: a series of a thousand is read by programs alone. */
static bool is_row(const cJSON *array)
{
	const cJSON *child;

	cJSON_ArrayForEach(child, array)
		if (!cJSON_IsNumber(child) && !cJSON_IsNull(child))
			return false;
	return true;
}

/* The depth is that of a tree we built or json_parse() bounded. */
static void print_item(FILE *f, const cJSON *item, bool pretty, unsigned depth)
{
	bool object = cJSON_IsObject(item);
	const cJSON *child;

	if (cJSON_IsArray(item) && pretty && is_row(item))
		pretty = false;
	if (cJSON_IsString(item)) {
		print_string(f, item->valuestring);
	} else if (cJSON_IsNumber(item)) {
		print_number(f, item->valuedouble);
	} else if (cJSON_IsBool(item)) {
		fputs(cJSON_IsTrue(item) ? "true" : "false", f);
	} else if (object || cJSON_IsArray(item)) {
		fputc(object ? '{' : '[', f);
		cJSON_ArrayForEach(child, item) {
			new_line(f, pretty, depth + 1);
			if (object) {
				print_string(f, child->string);
				fputs(pretty ? ": " : ":", f);
			}
			print_item(f, child, pretty, depth + 1);
			if (child->next)
				fputc(',', f);
		}
		if (item->child)
			new_line(f, pretty, depth);
		fputc(object ? '}' : ']', f);
	} else {
		fputs("null", f);
	}
}

static char *print(const cJSON *json, bool pretty)
{
	char *text = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);

	if (!f)
		abort();
	print_item(f, json, pretty, 0);
	if (fclose(f) != 0 || !text)
		abort();
	return text;
}

char *json_print(const cJSON *json)
{
	return print(json, false);
}

char *json_print_pretty(const cJSON *json)
{
	return print(json, true);
}
