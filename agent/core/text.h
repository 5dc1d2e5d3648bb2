/* Text of any length by a format; without memory these abort. The caller frees. */
#pragma once

#include <stdarg.h>

char *text_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *text_vformat(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));
