#include "server.h"

TestSuite(kube_watch, .init = server_set_up, .fini = server_tear_down, .timeout = 60);

static char log_text[4096];
static struct kube_watch *watch;
static unsigned stop_after;	/* this many calls of the listener */
static unsigned told;

static void note(enum kube_change change, const cJSON *object, void *data)
{
	static const char letters[] = "+~-SL";
	size_t n = strlen(log_text);

	cr_assert_eq(data, &watch);
	cr_assert_eq(object == NULL, change >= KUBE_SYNCED);
	snprintf(log_text + n, sizeof(log_text) - n, "%c%s%s ", letters[change],
		object ? kube_name(object) : "", object ? kube_text(object, "metadata.resourceVersion") : "");
	if (++told == stop_after)
		kube_watch_stop(watch);
}

static void start(void)
{
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(kube_watch_start(kube, "/api/v1/pods", note, &watch, &watch, &err), 0, "%s",
		err_text(err));
}

static bool is_watch(const char *request)
{
	return strstr(request, "watch=1") != NULL;
}

#define OBJECT(name, version) \
	"{\"metadata\":{\"name\":\"" name "\",\"uid\":\"u" name "\",\"resourceVersion\":\"" version "\"}}"
#define EVENT(type, object) "{\"type\":\"" type "\",\"object\":" object "}\n"

static void list(int fd, const char *version, const char *items)
{
	char body[1024];

	snprintf(body, sizeof(body), "{\"metadata\":{\"resourceVersion\":\"%s\"},\"items\":[%s]}",
		version, items);
	answer(fd, "200 OK", body);
}

static void stream(int fd)
{
	say(fd, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n");
}

/* Holds the connection until the client leaves it. */
static void hold(int fd)
{
	char byte;

	(void)!read(fd, &byte, 1);
}

static void serve_plain(int fd, unsigned nth, const char *request)
{
	(void)nth;
	if (!is_watch(request)) {
		list(fd, "10", OBJECT("a", "3") "," OBJECT("b", "4"));
		return;
	}
	stream(fd);
	if (strstr(request, "resourceVersion=10 ")) {
		say(fd, EVENT("MODIFIED", OBJECT("a", "11")) EVENT("MODIFIED", OBJECT("a", "11")));
		say(fd, EVENT("ADDED", OBJECT("c", "12")));
		usleep(50000);
		say(fd, EVENT("DELETED", OBJECT("b", "13")));
		say(fd, EVENT("BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"20\"}}"));
		return;
	}
	say(fd, EVENT("ADDED", OBJECT("d", "21")));
	hold(fd);
}

/* List, stream, the stream's end, and a new one from the bookmark: each version is told of once. */
Test(kube_watch, resumes)
{
	_cleanup_err_ struct err *err = NULL;

	server_serve(serve_plain);
	start();
	cr_assert_eq(kube_watch_wait(watch, 10 * NS_PER_S, &err), 0, "%s", err_text(err));
	cr_assert_eq(kube_watch_count(watch), 2);
	LOOP_UNTIL(strstr(log_text, "+d21"));
	cr_assert_str_eq(log_text, "+a3 +b4 S ~a11 +c12 -b13 +d21 ");
	cr_assert(strstr(server.requests, "timeoutSeconds=300&resourceVersion=10 "), "%s",
		server.requests);
	cr_assert(strstr(server.requests, "resourceVersion=20 "), "%s", server.requests);
	cr_assert(strstr(server.requests, "allowWatchBookmarks=true"), "%s", server.requests);
	cr_assert_eq(kube_watch_count(watch), 3);
	cr_assert_null(kube_watch_object(watch, 3));
}

static void serve_gone(int fd, unsigned nth, const char *request)
{
	if (!is_watch(request)) {
		if (nth == 0)
			list(fd, "10", OBJECT("a", "3") "," OBJECT("b", "4"));
		else
			list(fd, "90", OBJECT("b", "4") "," OBJECT("c", "80"));
		return;
	}
	if (nth == 3) {
		answer(fd, "410 Gone", "{\"kind\":\"Status\",\"code\":410,\"message\":\"too old\"}");
		return;
	}
	stream(fd);
	if (nth == 1)
		say(fd, EVENT("ERROR", "{\"kind\":\"Status\",\"code\":410,\"message\":\"too old\"}"));
	hold(fd);
}

/* Both ways of a server to say that the version is too old: what vanished in between is deleted. */
Test(kube_watch, lists_anew_when_its_version_is_gone)
{
	server_serve(serve_gone);
	start();
	LOOP_UNTIL(strstr(server.requests, "resourceVersion=90 HTTP/1.1\nGET /api/v1/pods?limit"));
	LOOP_UNTIL(strlen(log_text) >= strlen("+a3 +b4 S -a3 +c80 S S "));
	cr_assert_str_eq(log_text, "+a3 +b4 S -a3 +c80 S S ");
}

static void serve_away(int fd, unsigned nth, const char *request)
{
	if (nth == 0)
		list(fd, "10", OBJECT("a", "3"));
	else if (nth < 6)
		return;	/* closes without a word */
	else if (!is_watch(request))
		list(fd, "30", OBJECT("a", "25"));
	else
		stream(fd), hold(fd);
}

/* Lost is said once, what is known stays, and after the list it is in step again. */
Test(kube_watch, server_away)
{
	server_serve(serve_away);
	start();
	LOOP_UNTIL(strstr(log_text, "L "));
	cr_assert_eq(kube_watch_count(watch), 1);
	LOOP_UNTIL(strstr(log_text, "~a25 S "));
	cr_assert_str_eq(log_text, "+a3 S L ~a25 S ");
}

static void serve_forbidden(int fd, unsigned nth, const char *request)
{
	(void)nth;
	(void)request;
	answer(fd, "403 Forbidden", "{\"message\":\"pods is forbidden\"}");
}

Test(kube_watch, refused)
{
	_cleanup_err_ struct err *err = NULL;

	server_serve(serve_forbidden);
	start();
	cr_assert_eq(kube_watch_wait(watch, 10 * NS_PER_S, &err), -EPERM);
	cr_assert(strstr(err_text(err), "pods is forbidden"), "%s", err_text(err));
	cr_assert_str_eq(log_text, "L ");
}

static void serve_hang(int fd, unsigned nth, const char *request)
{
	(void)nth;
	(void)request;
	hold(fd);
}

Test(kube_watch, no_answer_in_time)
{
	_cleanup_err_ struct err *err = NULL;

	server_serve(serve_hang);
	start();
	cr_assert_eq(kube_watch_wait(watch, 100 * NS_PER_MS, &err), -ETIMEDOUT);
}

static void serve_garbage(int fd, unsigned nth, const char *request)
{
	if (!is_watch(request)) {
		list(fd, "10", "7,null,\"x\"," OBJECT("a", "3"));
		return;
	}
	stream(fd);
	if (nth == 1)
		say(fd, "[]\n{\"type\":7}\n{\"type\":\"ADDED\"}\n{\"type\":\"ADDED\",\"object\":[]}\n"
			EVENT("DELETED", OBJECT("z", "9")) "{no json\n");
	else if (nth < 4)
		say(fd, EVENT("ADDED", OBJECT("b", "11")));
	hold(fd);
}

/* What is not understood is passed over, or makes it list anew; nothing is invented. */
Test(kube_watch, garbage)
{
	server_serve(serve_garbage);
	start();
	LOOP_UNTIL(strstr(log_text, "+b11"));
	cr_assert_str_eq(log_text, "+a3 S L S +b11 ");
}

Test(kube_watch, stopped_by_its_listener)
{
	for (stop_after = 1; stop_after <= 5; stop_after++) {
		log_text[0] = 0;
		told = 0;
		if (stop_after == 1)
			server_serve(serve_plain);
		start();
		LOOP_UNTIL(told == stop_after);
		for (int i = 0; i < 3; i++)
			sd_event_run(event, 20000);
		cr_assert_eq(told, stop_after, "told of more after it was stopped: %s", log_text);
	}
}

Test(kube_watch, ends_with_its_kube)
{
	server_serve(serve_plain);
	start();
	LOOP_UNTIL(strstr(log_text, "S "));
	kube_free(kube);
	kube = NULL;
	sd_event_run(event, 20000);
}
