/* Stands before clone(2) of libc: ignores CLONE_PIDFD as Linux before 5.2 does, or refuses with the errno in CLONE_ERRNO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

static int (*next)(int (*)(void *), void *, int, void *, ...);

/* A process that clone has made may not look up symbols. */
__attribute__((constructor)) static void find_next(void) { next = dlsym(RTLD_NEXT, "clone"); }

int clone(int (*function)(void *), void *stack, int flags, void *argument, ...) {
    const char *refusal = getenv("CLONE_ERRNO");
    if (refusal) {
        errno = atoi(refusal);
        return -1;
    }
    va_list rest;
    va_start(rest, argument);
    void *parent = va_arg(rest, void *), *tls = va_arg(rest, void *), *child = va_arg(rest, void *);
    va_end(rest);
    return next(function, stack, flags & ~CLONE_PIDFD, argument, parent, tls, child);
}
