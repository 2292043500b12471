/* Waiting on the processor where the agent waits: transport/work, chain. */
#define _GNU_SOURCE
#include "_fast.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NEAR = 2 }; /* milliseconds that one waits there at most: who is woken starts when that processor is free */

/* Processors, with room for those of any kernel. */
typedef struct {
    unsigned char bits[1024];
    long size; /* of what the kernel told */
} Affinity;

/* Has this thread use one of its processors alone; false: it can't, or there is no other. before: what to restore. */
static bool narrow(Affinity *before, uint32_t processor) {
    Affinity one = {{0}, 0};
    long at = processor / 8;
    before->size = syscall(SYS_sched_getaffinity, 0, sizeof before->bits, before->bits);
    if (before->size <= at || !(before->bits[at] & 1 << processor % 8)) return false;
    one.bits[at] = (unsigned char)(1 << processor % 8);
    return memcmp(one.bits, before->bits, (size_t)before->size) && !syscall(SYS_sched_setaffinity, 0, before->size, one.bits);
}

static void restore(const Affinity *before) {
    Affinity all;
    if (!syscall(SYS_sched_setaffinity, 0, before->size, before->bits)) return;
    memset(all.bits, 0xff, sizeof all.bits); /* none of them is left: the kernel takes of all what there is */
    syscall(SYS_sched_setaffinity, 0, before->size, all.bits);
}

int link_wait(Link *l, struct pollfd *p, int count, int milliseconds) {
    Affinity before;
    if (l->in.place && l->alone && milliseconds > NEAR && narrow(&before, l->in.place - 1)) {
        int n = poll(p, (nfds_t)count, NEAR), error = errno;
        restore(&before);
        errno = error;
        if (n) return n;
        milliseconds -= NEAR;
    }
    return poll(p, (nfds_t)count, milliseconds);
}
