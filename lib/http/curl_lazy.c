/*
 * libcurl, loaded when it is first needed: it and what it needs are 3 MB of an agent that most nodes
 * never have speak to an API server. These are its functions that lib/http uses, by their names, each
 * of which calls the real one. The names are libcurl's; libcurl.so is not linked.
 *
 * curl_easy_setopt() and curl_easy_getinfo() take one argument of a type that depends on the option: a long, a
 * pointer or a curl_off_t. All are 64 bits wide where long is, and are passed alike.
 */
#include <curl/curl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

_Static_assert(sizeof(long) == sizeof(curl_off_t) && sizeof(void *) == sizeof(curl_off_t),
	"the arguments of curl_easy_setopt() differ in width");

static const char *const names[] = {"libcurl-gnutls.so.4", "libcurl.so.4"};

/* Filled once, by load(), and never again. */
static struct {
	CURLcode (*global_init)(long flags);
	CURL *(*easy_init)(void);
	void (*easy_cleanup)(CURL *easy);
	CURLcode (*easy_setopt)(CURL *easy, CURLoption option, ...);
	CURLcode (*easy_getinfo)(CURL *easy, CURLINFO info, ...);
	const char *(*easy_strerror)(CURLcode code);
	CURLM *(*multi_init)(void);
	CURLMcode (*multi_cleanup)(CURLM *multi);
	CURLMcode (*multi_add_handle)(CURLM *multi, CURL *easy);
	CURLMcode (*multi_remove_handle)(CURLM *multi, CURL *easy);
	CURLMcode (*multi_setopt)(CURLM *multi, CURLMoption option, ...);
	CURLMcode (*multi_socket_action)(CURLM *multi, curl_socket_t fd, int events, int *running);
	CURLMsg *(*multi_info_read)(CURLM *multi, int *queued);
	const char *(*multi_strerror)(CURLMcode code);
	struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
	void (*slist_free_all)(struct curl_slist *list);
	bool complete;
} real;

static void *symbol(void *library, const char *name, bool *complete)
{
	void *p = dlsym(library, name);

	*complete = *complete && p;
	return p;
}

static void load(void)
{
	void *l = NULL;
	bool complete;

	for (size_t i = 0; !l && i < sizeof(names) / sizeof(*names); i++)
		l = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	complete = l;
	if (!l)
		return;
	real.global_init = symbol(l, "curl_global_init", &complete);
	real.easy_init = symbol(l, "curl_easy_init", &complete);
	real.easy_cleanup = symbol(l, "curl_easy_cleanup", &complete);
	real.easy_setopt = symbol(l, "curl_easy_setopt", &complete);
	real.easy_getinfo = symbol(l, "curl_easy_getinfo", &complete);
	real.easy_strerror = symbol(l, "curl_easy_strerror", &complete);
	real.multi_init = symbol(l, "curl_multi_init", &complete);
	real.multi_cleanup = symbol(l, "curl_multi_cleanup", &complete);
	real.multi_add_handle = symbol(l, "curl_multi_add_handle", &complete);
	real.multi_remove_handle = symbol(l, "curl_multi_remove_handle", &complete);
	real.multi_setopt = symbol(l, "curl_multi_setopt", &complete);
	real.multi_socket_action = symbol(l, "curl_multi_socket_action", &complete);
	real.multi_info_read = symbol(l, "curl_multi_info_read", &complete);
	real.multi_strerror = symbol(l, "curl_multi_strerror", &complete);
	real.slist_append = symbol(l, "curl_slist_append", &complete);
	real.slist_free_all = symbol(l, "curl_slist_free_all", &complete);
	real.complete = complete;
}

/* The first call of all, before any other function here. */
CURLcode curl_global_init(long flags)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
	return real.complete ? real.global_init(flags) : CURLE_FAILED_INIT;
}

CURL *curl_easy_init(void)
{
	return real.easy_init();
}

void curl_easy_cleanup(CURL *easy)
{
	real.easy_cleanup(easy);
}

CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
	va_list args;
	void *value;

	va_start(args, option);
	value = va_arg(args, void *);
	va_end(args);
	return real.easy_setopt(easy, option, value);
}

CURLcode curl_easy_getinfo(CURL *easy, CURLINFO info, ...)
{
	va_list args;
	void *place;

	va_start(args, info);
	place = va_arg(args, void *);
	va_end(args);
	return real.easy_getinfo(easy, info, place);
}

const char *curl_easy_strerror(CURLcode code)
{
	return real.easy_strerror(code);
}

CURLM *curl_multi_init(void)
{
	return real.multi_init();
}

CURLMcode curl_multi_cleanup(CURLM *multi)
{
	return real.multi_cleanup(multi);
}

CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy)
{
	return real.multi_add_handle(multi, easy);
}

CURLMcode curl_multi_remove_handle(CURLM *multi, CURL *easy)
{
	return real.multi_remove_handle(multi, easy);
}

CURLMcode curl_multi_setopt(CURLM *multi, CURLMoption option, ...)
{
	va_list args;
	void *value;

	va_start(args, option);
	value = va_arg(args, void *);
	va_end(args);
	return real.multi_setopt(multi, option, value);
}

CURLMcode curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int events, int *running)
{
	return real.multi_socket_action(multi, fd, events, running);
}

CURLMsg *curl_multi_info_read(CURLM *multi, int *queued)
{
	return real.multi_info_read(multi, queued);
}

const char *curl_multi_strerror(CURLMcode code)
{
	return real.multi_strerror(code);
}

struct curl_slist *curl_slist_append(struct curl_slist *list, const char *text)
{
	return real.slist_append(list, text);
}

void curl_slist_free_all(struct curl_slist *list)
{
	real.slist_free_all(list);
}
