// What this program uses of libfabric's binary interface (version 1, which libfabric.so.1 keeps), declared by ourselves: so it is built
// where no headers of it are. Names begin with lf_ where libfabric's begin with fi_. Fields that are not used have no name of theirs. abi_test.go
// compares all of it with the headers, where they are.
#ifndef MANIPLE_NATIVE_LIBFABRIC_H
#define MANIPLE_NATIVE_LIBFABRIC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LF_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor))

enum { LF_EP_RDM = 3, LF_ENABLE = 6, LF_CQ_FORMAT_CONTEXT = 1, LF_THREAD_DOMAIN = 3, LF_PROGRESS_AUTO = 1, LF_EAVAIL = 259 };

#define LF_RMA (1ULL << 2)
#define LF_READ (1ULL << 8)
#define LF_RECV (1ULL << 10)
#define LF_SEND (1ULL << 11)
#define LF_REMOTE_READ (1ULL << 12)
#define LF_NUMERICHOST (1ULL << 55)
#define LF_SOURCE (1ULL << 57)
#define LF_CONTEXT (1ULL << 59)
#define LF_CONTEXT2 (1ULL << 52)

enum { // what a provider wants of memory
	LF_MR_LOCAL = 1 << 2,
	LF_MR_VIRT_ADDR = 1 << 4,
	LF_MR_ALLOCATED = 1 << 5,
	LF_MR_PROV_KEY = 1 << 6,
	LF_MR_ENDPOINT = 1 << 9
};

typedef uint64_t lf_addr;
struct lf_fid;
struct lf_domain;
struct lf_ep;

struct lf_ops {
	size_t size;
	int (*close)(struct lf_fid *);
	int (*bind)(struct lf_fid *, struct lf_fid *, uint64_t flags);
	int (*control)(struct lf_fid *, int command, void *);
};

struct lf_fid {
	size_t fclass;
	void *context;
	struct lf_ops *ops;
};

struct lf_ep_attr {
	int type;
	uint32_t protocol, protocol_version;
	size_t max_msg_size;
};

struct lf_domain_attr {
	void *domain;
	char *name;
	int threading, control_progress, data_progress, resource_mgmt, av_type, mr_mode;
	size_t mr_key_size;
};

struct lf_fabric_attr {
	void *fabric;
	char *name, *prov_name;
};

struct lf_info {
	struct lf_info *next;
	uint64_t caps, mode;
	uint32_t addr_format;
	size_t src_addrlen, dest_addrlen;
	void *src_addr, *dest_addr, *handle, *tx_attr, *rx_attr;
	struct lf_ep_attr *ep_attr;
	struct lf_domain_attr *domain_attr;
	struct lf_fabric_attr *fabric_attr;
};

struct lf_fabric {
	struct lf_fid fid;
	struct lf_ops_fabric {
		size_t size;
		int (*domain)(struct lf_fabric *, struct lf_info *, struct lf_domain **, void *context);
	} *ops;
};

struct lf_av_attr {
	int type, rx_ctx_bits;
	size_t count, ep_per_node;
	const char *name;
	void *map_addr;
	uint64_t flags;
};

struct lf_av {
	struct lf_fid fid;
	struct lf_ops_av {
		size_t size;
		int (*insert)(struct lf_av *, const void *addr, size_t count, lf_addr *, uint64_t flags, void *context);
		void *insertsvc, *insertsym;
		int (*remove)(struct lf_av *, lf_addr *, size_t count, uint64_t flags);
	} *ops;
};

struct lf_cq_attr {
	size_t size;
	uint64_t flags;
	int format, wait_obj, signaling_vector, wait_cond;
	void *wait_set;
};

struct lf_cq_error {
	void *op_context;
	uint64_t flags;
	size_t len;
	void *buf;
	uint64_t data, tag;
	size_t olen;
	int err, prov_errno;
	void *err_data;
	size_t err_data_size;
	uint64_t later[8]; // what newer versions add
};

struct lf_cq {
	struct lf_fid fid;
	struct lf_ops_cq {
		size_t size;
		ssize_t (*read)(struct lf_cq *, void *, size_t count);
		void *readfrom;
		ssize_t (*readerr)(struct lf_cq *, struct lf_cq_error *, uint64_t flags);
		void *sread, *sreadfrom, *signal;
		const char *(*strerror)(struct lf_cq *, int prov_errno, const void *err_data, char *, size_t);
	} *ops;
};

struct lf_mr {
	struct lf_fid fid;
	void *mem_desc;
	uint64_t key;
};

struct lf_domain {
	struct lf_fid fid;
	struct lf_ops_domain {
		size_t size;
		int (*av_open)(struct lf_domain *, struct lf_av_attr *, struct lf_av **, void *context);
		int (*cq_open)(struct lf_domain *, struct lf_cq_attr *, struct lf_cq **, void *context);
		int (*endpoint)(struct lf_domain *, struct lf_info *, struct lf_ep **, void *context);
	} *ops;
	struct lf_ops_mr {
		size_t size;
		int (*reg)(struct lf_fid *, const void *, size_t, uint64_t access, uint64_t offset, uint64_t key, uint64_t flags, struct lf_mr **, void *context);
	} *mr;
};

struct lf_ep {
	struct lf_fid fid;
	void *ops;
	struct lf_ops_cm {
		size_t size;
		int (*setname)(struct lf_fid *, void *, size_t);
		int (*getname)(struct lf_fid *, void *, size_t *);
	} *cm;
	void *msg;
	struct lf_ops_rma {
		size_t size;
		ssize_t (*read)(struct lf_ep *, void *, size_t, void *desc, lf_addr, uint64_t addr, uint64_t key, void *context);
	} *rma;
};

#endif
