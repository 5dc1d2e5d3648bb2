/* Between the files that read configurations. */
#pragma once

#include "kube/kube.h"

/* token file, kubeconfig: nothing that we read is longer. */
#define KUBE_FILE_MAX (1UL << 20)

struct kube_config *kube_config_new(void);
/* Puts base64 text into a memfd: *ret is its "/proc/self/fd/N", c->fds[slot] owns it. */
int kube_config_data(struct kube_config *c, unsigned slot, const char *base64, char **ret,
	struct err **err);
/* What a server and a token may look like; -EINVAL with words. */
int kube_config_check(const struct kube_config *c, struct err **err);
/* Of the files named (at least one), merged as kubectl does: who says it first, is right. */
int kube_config_load_files(char *const *paths, const char *context, struct kube_config **ret,
	struct err **err);
