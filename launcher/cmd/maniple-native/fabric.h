// An endpoint of a fabric, by libfabric. All of it is one thread's, but for fabric_load.
#ifndef MANIPLE_NATIVE_FABRIC_H
#define MANIPLE_NATIVE_FABRIC_H

#include "libfabric.h"

enum { fabric_words = 256 }; // bytes that a message has room for

// fabric_load loads libfabric for good; 0, or why gets the loader's message. The process's signals stay as they are.
int fabric_load(const char *path, char *why);

// fabric_find lists what a provider has here, for the address of this host, or any; 0, or why says what is wrong.
int fabric_find(const char *provider, const char *host, int modes, struct lf_info **list, char *why);
void fabric_forget(struct lf_info *list);

struct fabric;

// fabric_open opens one of that list. name is what it is called, where a provider lets one choose; or NULL.
struct fabric *fabric_open(struct lf_info *info, const char *name, char *why);
void fabric_close(struct fabric *);

// fabric_address gives where others find it; its size, or -1.
ssize_t fabric_address(struct fabric *, void *, size_t room);

// fabric_region is memory that was told to the fabric.
struct fabric_region {
	struct lf_mr *mr;
	void *desc;
	uint64_t key, at; // with which others read it, and from where on
};

// fabric_register has others read memory (remote), or this endpoint read into it.
int fabric_register(struct fabric *, void *memory, size_t size, int remote, uint64_t key, struct fabric_region *, char *why);
int fabric_release(struct fabric_region *);

// fabric_peer makes another endpoint's address one that can be read from; fabric_leave forgets it.
int fabric_peer(struct fabric *, const void *address, lf_addr *, char *why);
void fabric_leave(struct fabric *, lf_addr);

// fabric_read begins a read; number comes back when it is over. 0, -EAGAIN: later, or why.
int fabric_read(struct fabric *, void *into, size_t size, void *desc, lf_addr, uint64_t at, uint64_t key, uint64_t number, char *why);

// fabric_done is a read that is over.
struct fabric_done {
	uint64_t number;
	int failed;
	char why[fabric_words];
};

// fabric_poll drives the endpoint until something is over, or so many microseconds are; how many there are, or -1.
int fabric_poll(struct fabric *, long microseconds, struct fabric_done *, int room, char *why);

// fabric_latency reads the same 8 bytes count times, one after another, and gives the nanoseconds of each.
int fabric_latency(struct fabric *, void *into, void *desc, lf_addr, uint64_t at, uint64_t key, int count, uint32_t *nanoseconds, char *why);

#endif
