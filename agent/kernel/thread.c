#include "kernel/thread.h"

#include <pthread.h>
#include <signal.h>

struct visit {
	int (*call)(void *data, struct err **err);
	void *data;
	struct err **err;
	int result;
};

static void *visit_thread(void *arg)
{
	struct visit *v = arg;

	v->result = v->call(v->data, v->err);
	return NULL;
}

int thread_run(int (*call)(void *data, struct err **err), void *data, struct err **err)
{
	struct visit v = {.call = call, .data = data, .err = err};
	sigset_t all, saved;
	pthread_t thread;
	int r;

	/* A thread inherits the mask: no signal of the agent is ever handled in a foreign place. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	r = pthread_create(&thread, NULL, visit_thread, &v);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	if (r != 0)
		return err_errno(err, r, "start a thread");
	pthread_join(thread, NULL);
	return v.result;
}
