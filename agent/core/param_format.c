#include "core/param.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "core/catalogue.h"

char *param_number_format(const struct param_spec *p, uint64_t number,
	char buf[static UNITS_TEXT_MAX])
{
	const char *word = NULL;

	switch (p->type) {
	case PARAM_BOOL:
		word = number ? "true" : "false";
		break;
	case PARAM_DURATION:
		return duration_format(number, buf);
	case PARAM_PERCENT:
		return percent_format((uint32_t)number, buf);
	case PARAM_BYTES:
		return bytes_format(number, buf);
	case PARAM_RATE:
		return rate_format(number, buf);
	case PARAM_ENUM:
		word = p->choices[number];
		break;
	case PARAM_SIGNAL:
		word = sigabbrev_np((int)number);
		break;
	default:
		break;
	}
	if (word)
		snprintf(buf, UNITS_TEXT_MAX, "%s", word);
	else
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64, number);
	return buf;
}

static char *choices_text(const char *const *choices)
{
	char *text = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);

	if (!f)
		return NULL;
	for (size_t i = 0; choices[i]; i++)
		fprintf(f, "%s%s", i ? "|" : "", choices[i]);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static char *bounds_text(const struct param_spec *p)
{
	uint64_t max = p->max;
	char low[UNITS_TEXT_MAX], high[UNITS_TEXT_MAX];
	char *text;
	int n;

	if (max == 0 && p->type == PARAM_PERCENT)
		max = 1000000;
	param_number_format(p, p->min, low);
	if (p->type == PARAM_PERCENT && p->min == 0)
		strcpy(low, "0%");
	if (max) {
		param_number_format(p, max, high);
		n = asprintf(&text, "%s..%s", low, high);
	} else if (p->min) {
		n = asprintf(&text, "at least %s", low);
	} else {
		return strdup("");
	}
	return n < 0 ? NULL : text;
}

char *param_range_text(const struct param_spec *p)
{
	switch (p->type) {
	case PARAM_BOOL:
		return strdup("true|false");
	case PARAM_ENUM:
		return choices_text(p->choices);
	case PARAM_SIGNAL:
		return strdup("a signal's name or number");
	case PARAM_TEXT:
		return strdup("");
	case PARAM_TEXTS:
		return p->choices ? choices_text(p->choices) : strdup("");
	case PARAM_PEERS:
		return strdup("names and addresses, with ports");
	case PARAM_PORTS:
		return strdup("1..65535, ranges as 8000-8010");
	default:
		return bounds_text(p);
	}
}
