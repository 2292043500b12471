#define _GNU_SOURCE
#include "fabric.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
	int (*getinfo)(uint32_t version, const char *node, const char *service, uint64_t flags, const struct lf_info *hints, struct lf_info **);
	void (*freeinfo)(struct lf_info *);
	struct lf_info *(*dupinfo)(const struct lf_info *);
	int (*fabric)(struct lf_fabric_attr *, struct lf_fabric **, void *context);
	const char *(*strerror)(int);
} lib;

enum { version_major = 1, version_minor = 9, operations = 64, batch = 16, last_signal = 31 };

// operation is what a provider may write into while a read is under way.
struct operation {
	void *internal[8];
	uint64_t number;
	struct operation *next;
};

struct fabric {
	struct lf_info *info;
	struct lf_fabric *fabric;
	struct lf_domain *domain;
	struct lf_av *av;
	struct lf_cq *cq;
	struct lf_ep *ep;
	int enabled;
	struct operation pool[operations], *unused;
};

// Libraries that libfabric loads, and some of its endpoints, take signals of the process for themselves, without the alternate stack
// that Go needs and with ends of their own. They are put back.
static void signals(struct sigaction *all, int put)
{
	for (int i = 1; i <= last_signal; i++) {
		struct sigaction now;
		if (!put)
			sigaction(i, NULL, &all[i]);
		else if (sigaction(i, NULL, &now) == 0 && (now.sa_sigaction != all[i].sa_sigaction || now.sa_flags != all[i].sa_flags))
			sigaction(i, &all[i], NULL);
	}
}

int fabric_load(const char *path, char *why)
{
	struct sigaction all[last_signal + 1];
	if (lib.fabric)
		return 0;
	signals(all, 0);
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	signals(all, 1);
	if (!library) {
		snprintf(why, fabric_words, "%s", dlerror());
		return -1;
	}
	lib.getinfo = dlsym(library, "fi_getinfo");
	lib.freeinfo = dlsym(library, "fi_freeinfo");
	lib.dupinfo = dlsym(library, "fi_dupinfo");
	lib.strerror = dlsym(library, "fi_strerror");
	if (!lib.getinfo || !lib.freeinfo || !lib.dupinfo || !lib.strerror || !(lib.fabric = dlsym(library, "fi_fabric"))) {
		snprintf(why, fabric_words, "%s is no libfabric", path);
		return -1;
	}
	return 0;
}

static int wrong(const char *what, int code, char *why)
{
	snprintf(why, fabric_words, "%s: %s", what, lib.strerror(-code));
	return code ? code : -EINVAL;
}

int fabric_find(const char *provider, const char *host, int modes, struct lf_info **list, char *why)
{
	struct sigaction all[last_signal + 1];
	struct lf_info *hints = lib.dupinfo(NULL);
	if (!hints)
		return wrong("fi_dupinfo", -ENOMEM, why);
	hints->caps = LF_RMA | LF_READ | LF_REMOTE_READ;
	hints->mode = LF_CONTEXT | LF_CONTEXT2;
	hints->ep_attr->type = LF_EP_RDM;
	hints->domain_attr->mr_mode = modes;
	hints->domain_attr->threading = LF_THREAD_DOMAIN;
	hints->fabric_attr->prov_name = strdup(provider);
	signals(all, 0);
	int code = lib.getinfo(LF_VERSION(version_major, version_minor), host, host ? "0" : NULL, host ? LF_SOURCE | LF_NUMERICHOST : 0, hints, list);
	signals(all, 1);
	lib.freeinfo(hints);
	return code ? wrong("fi_getinfo", code, why) : 0;
}

void fabric_forget(struct lf_info *list) { lib.freeinfo(list); }

static int begin(struct fabric *f, const char *name, char *why)
{
	struct lf_av_attr av = {.type = f->info->domain_attr->av_type};
	struct lf_cq_attr cq = {.size = 2 * operations, .format = LF_CQ_FORMAT_CONTEXT};
	int code;
	if ((code = lib.fabric(f->info->fabric_attr, &f->fabric, NULL)))
		return wrong("fi_fabric", code, why);
	if ((code = f->fabric->ops->domain(f->fabric, f->info, &f->domain, NULL)))
		return wrong("fi_domain", code, why);
	if ((code = f->domain->ops->av_open(f->domain, &av, &f->av, NULL)))
		return wrong("fi_av_open", code, why);
	if ((code = f->domain->ops->cq_open(f->domain, &cq, &f->cq, NULL)))
		return wrong("fi_cq_open", code, why);
	if ((code = f->domain->ops->endpoint(f->domain, f->info, &f->ep, NULL)))
		return wrong("fi_endpoint", code, why);
	struct lf_fid *ep = &f->ep->fid;
	if ((code = ep->ops->bind(ep, &f->av->fid, 0)))
		return wrong("fi_ep_bind to addresses", code, why);
	if ((code = ep->ops->bind(ep, &f->cq->fid, LF_SEND | LF_RECV)))
		return wrong("fi_ep_bind to completions", code, why);
	if (name && (code = f->ep->cm->setname(ep, (void *)name, strlen(name) + 1)))
		return wrong("fi_setname", code, why);
	if ((code = ep->ops->control(ep, LF_ENABLE, NULL)))
		return wrong("fi_enable", code, why);
	f->enabled = 1;
	return 0;
}

struct fabric *fabric_open(struct lf_info *info, const char *name, char *why)
{
	struct sigaction all[last_signal + 1];
	struct fabric *f = calloc(1, sizeof *f);
	if (!f || !(f->info = lib.dupinfo(info))) {
		free(f);
		wrong("memory", -ENOMEM, why);
		return NULL;
	}
	for (int i = 0; i < operations; i++) {
		f->pool[i].next = f->unused;
		f->unused = &f->pool[i];
	}
	signals(all, 0);
	int code = begin(f, name, why);
	signals(all, 1);
	if (code) {
		fabric_close(f);
		return NULL;
	}
	return f;
}

static void shut(struct lf_fid *fid) { fid->ops->close(fid); }

void fabric_close(struct fabric *f)
{
	if (f->ep && f->enabled) // to close one that was never enabled is a crash of some versions
		shut(&f->ep->fid);
	if (f->enabled || !f->ep) {
		if (f->cq)
			shut(&f->cq->fid);
		if (f->av)
			shut(&f->av->fid);
		if (f->domain)
			shut(&f->domain->fid);
		if (f->fabric)
			shut(&f->fabric->fid);
	}
	lib.freeinfo(f->info);
	free(f);
}

ssize_t fabric_address(struct fabric *f, void *address, size_t room)
{
	return f->ep->cm->getname(&f->ep->fid, address, &room) ? -1 : (ssize_t)room;
}

int fabric_register(struct fabric *f, void *memory, size_t size, int remote, uint64_t key, struct fabric_region *r, char *why)
{
	struct lf_domain *d = f->domain;
	int code = d->mr->reg(&d->fid, memory, size, remote ? LF_REMOTE_READ : LF_READ, 0, key, 0, &r->mr, NULL);
	if (code)
		return wrong("fi_mr_reg", code, why);
	struct lf_fid *mr = &r->mr->fid;
	if (f->info->domain_attr->mr_mode & LF_MR_ENDPOINT) {
		if ((code = mr->ops->bind(mr, &f->ep->fid, 0)) || (code = mr->ops->control(mr, LF_ENABLE, NULL))) {
			shut(mr);
			return wrong("fi_mr_enable", code, why);
		}
	}
	r->desc = r->mr->mem_desc;
	r->key = r->mr->key;
	r->at = f->info->domain_attr->mr_mode & LF_MR_VIRT_ADDR ? (uint64_t)(uintptr_t)memory : 0;
	return 0;
}

int fabric_release(struct fabric_region *r) { return r->mr->fid.ops->close(&r->mr->fid); }

int fabric_peer(struct fabric *f, const void *address, lf_addr *peer, char *why)
{
	int n = f->av->ops->insert(f->av, address, 1, peer, 0, NULL);
	return n == 1 ? 0 : wrong("fi_av_insert", n < 0 ? n : -EINVAL, why);
}

void fabric_leave(struct fabric *f, lf_addr peer) { f->av->ops->remove(f->av, &peer, 1, 0); }

int fabric_read(struct fabric *f, void *into, size_t size, void *desc, lf_addr peer, uint64_t at, uint64_t key, uint64_t number, char *why)
{
	struct operation *o = f->unused;
	if (!o)
		return -EAGAIN;
	o->number = number;
	struct operation *next = o->next;
	ssize_t code = f->ep->rma->read(f->ep, into, size, desc, peer, at, key, o);
	if (code == -EAGAIN)
		return -EAGAIN;
	if (code)
		return wrong("fi_read", (int)code, why);
	f->unused = next;
	return 0;
}

static void over(struct fabric *f, struct operation *o, struct fabric_done *d)
{
	d->number = o->number;
	o->next = f->unused;
	f->unused = o;
}

static uint64_t nanoseconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// once looks at what is over.
static int once(struct fabric *f, struct fabric_done *done, int room, char *why)
{
	void *contexts[batch];
	ssize_t n = f->cq->ops->read(f->cq, contexts, room < batch ? (size_t)room : batch);
	if (n == -EAGAIN)
		return 0;
	if (n == -LF_EAVAIL) {
		struct lf_cq_error e = {0};
		if ((n = f->cq->ops->readerr(f->cq, &e, 0)) < 0)
			return n == -EAGAIN ? 0 : wrong("fi_cq_readerr", (int)n, why);
		if (!e.op_context)
			return 0; // nothing of ours
		over(f, e.op_context, done);
		done->failed = 1;
		snprintf(done->why, fabric_words, "%s", lib.strerror(e.err));
		return 1;
	}
	if (n < 0)
		return wrong("fi_cq_read", (int)n, why);
	for (ssize_t i = 0; i < n; i++) {
		done[i].failed = 0;
		over(f, contexts[i], &done[i]);
	}
	return (int)n;
}

int fabric_poll(struct fabric *f, long microseconds, struct fabric_done *done, int room, char *why)
{
	uint64_t end = nanoseconds() + (uint64_t)microseconds * 1000;
	for (;;) {
		for (int i = 0; i < 64; i++) {
			int n = once(f, done, room, why);
			if (n)
				return n;
		}
		if (nanoseconds() >= end)
			return 0;
		sched_yield();
	}
}

int fabric_latency(struct fabric *f, void *into, void *desc, lf_addr peer, uint64_t at, uint64_t key, int count, uint32_t *each, char *why)
{
	for (int i = 0; i < count; i++) {
		uint64_t began = nanoseconds(), now = began;
		struct fabric_done d;
		int code, n = 0;
		while ((code = fabric_read(f, into, 8, desc, peer, at, key, 0, why)) == -EAGAIN)
			if (once(f, &d, 1, why) < 0 || nanoseconds() - began > 5000000000u)
				return wrong("no read can be begun", -ETIMEDOUT, why);
		if (code)
			return code;
		for (int spins = 0; !n; spins++) {
			n = once(f, &d, 1, why);
			if (spins % 1024 == 1023) {
				if ((now = nanoseconds()) - began > 5000000000u)
					return wrong("a read does not end", -ETIMEDOUT, why);
				sched_yield(); // two may share a processor
			}
		}
		if (n < 0)
			return n;
		if (d.failed) {
			snprintf(why, fabric_words, "%s", d.why);
			return -1;
		}
		now = nanoseconds();
		each[i] = (uint32_t)(now - began);
	}
	return 0;
}
