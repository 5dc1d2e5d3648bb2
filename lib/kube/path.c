#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "kube/kube.h"

/* Of an object's name (RFC 1123 subdomain). */
#define NAME_MAX_BYTES 253

/* RFC 3986's unreserved characters stay. */
static void encode(FILE *f, const char *s)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~";

	for (; *s; s++) {
		if (strchr(plain, *s))
			fputc(*s, f);
		else
			fprintf(f, "%%%02X", (unsigned char)*s);
	}
}

/* One conversion after its '%'; returns how many characters it took. */
static size_t convert(FILE *f, const char *fmt, va_list *ap)
{
	if (fmt[0] == 's')
		encode(f, va_arg(*ap, const char *));
	else if (fmt[0] == '%')
		fputc('%', f);
	else if (fmt[0] == 'u')
		fprintf(f, "%u", va_arg(*ap, unsigned));
	else if (fmt[0] == 'd')
		fprintf(f, "%d", va_arg(*ap, int));
	else if (fmt[0] == 'z' && fmt[1] == 'u')
		return fprintf(f, "%zu", va_arg(*ap, size_t)), 2;
	else if (fmt[0] == 'l' && fmt[1] == 'u')
		return fprintf(f, "%lu", va_arg(*ap, unsigned long)), 2;
	else
		abort();	/* a caller's mistake, seen at the first call */
	return 1;
}

char *kube_path(const char *fmt, ...)
{
	char *out = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&out, &length);
	va_list ap;

	if (!f)
		abort();
	va_start(ap, fmt);
	while (*fmt) {
		if (*fmt != '%')
			fputc(*fmt++, f);
		else
			fmt += 1 + convert(f, fmt + 1, &ap);
	}
	va_end(ap);
	if (fclose(f))
		abort();
	return out;
}

char *kube_cluster_object(const char *prefix, const char *cluster)
{
	char *name = NULL;

	if (asprintf(&name, "%s%s", prefix, cluster) < 0)
		abort();
	for (char *p = name; *p; p++)
		*p = isalnum((unsigned char)*p) ? (char)tolower((unsigned char)*p) : *p == '/' ? '.' : '-';
	for (size_t n = strlen(name); n && (n > NAME_MAX_BYTES || !isalnum((unsigned char)name[n - 1])); n--)
		name[n - 1] = 0;
	return name;
}
