/* A slab, mapped for writing, and copies into it without the interpreter's lock.
 *
 * Two threads copy what is large, chunk by chunk: each takes the next one, so that a helper that gets no processor, or comes late,
 * holds up nobody, nor does the interpreter's lock while one looks for signals. Whether stores go through the caches or past them is
 * best depends on the machine, on what else it does and on the size, so it is measured with each chunk: each way has a rate, the best
 * one is taken, and now and then the other one is tried again. */
#define _GNU_SOURCE
#include "_fast_python.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <emmintrin.h>
#endif

OLD_NAME(pthread_create);
OLD_NAME(pthread_attr_setdetachstate);
OLD_NAME(pthread_attr_setstacksize);
OLD_NAME(pthread_sigmask);

enum {
    THROUGH, /* the caches */
    PAST,    /* them */
    WAYS,
    LEAST = 512 << 10, /* below it plain stores are best: what is written is read soon, from the caches */
    LARGE = 8 << 20,  /* below it one thread is */
    PIECE = 32 << 20, /* copied at once by a thread: between two, an interrupt comes through */
    TAKEN = 1 << 20,  /* what a thread takes of a value */
    FREE = 4 << 20,   /* from there the interpreter's lock is let go of */
    AGAIN = 64,       /* chunks between two that try the other way */
    SIZES = 5,
    STACK = 256 << 10,
    ENTER = 22,       /* MADV_POPULATE_READ: Linux 5.14 */
};

/* Copies. */

static void stream(char *to, const char *from, size_t size) {
#ifdef __x86_64__
    size_t head = -(uintptr_t)to & 63;
    if (head > size) head = size;
    memcpy(to, from, head);
    to += head, from += head, size -= head;
    for (; size >= 64; to += 64, from += 64, size -= 64) {
        _mm_prefetch(from + 1024, _MM_HINT_NTA);
        __m128i a = _mm_loadu_si128((const __m128i *)from), b = _mm_loadu_si128((const __m128i *)from + 1);
        __m128i c = _mm_loadu_si128((const __m128i *)from + 2), d = _mm_loadu_si128((const __m128i *)from + 3);
        _mm_stream_si128((__m128i *)to, a), _mm_stream_si128((__m128i *)to + 1, b);
        _mm_stream_si128((__m128i *)to + 2, c), _mm_stream_si128((__m128i *)to + 3, d);
    }
    _mm_sfence();
#endif
    memcpy(to, from, size);
}

/* Of CPU that this thread has had: on a busy machine the clock says nothing of a way. */
static double spent(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What is copied. Who does it and a helper share it; a helper that begins when all is taken finds it whole, and touches nothing else. */
typedef struct {
    char *to;
    const char *from;
    size_t size;
    const char *warm; /* up to where pages are in the page table */
    int of, way;      /* the class of sizes that it is of, and its way; WAYS: the best that is known, chunk by chunk */
    bool shared;      /* by two threads */
    atomic_int shares;
    atomic_size_t next, done, end; /* where the next chunk begins; bytes that are copied; that are to be */
    atomic_int whole;              /* they are; what who waits for that sleeps on */
} Copy;

static void enter_pages(char *at, size_t size) {
    uintptr_t before = (uintptr_t)at % (uintptr_t)sysconf(_SC_PAGESIZE);
    madvise(at - before, size + before, ENTER); /* or they come by faults */
}

/* What was learnt. */

static _Atomic double rates[SIZES][WAYS]; /* bytes in a second of CPU; 0: not known */
static atomic_uint chunks[SIZES];

static int size_of(size_t size) { return size < LARGE ? 0 : size < 16 << 20 ? 1 : size < 64 << 20 ? 2 : size < 512 << 20 ? 3 : 4; }

/* The best way, and now and then the other one. */
static int choose(int of) {
#ifdef __x86_64__
    double through = atomic_load(&rates[of][THROUGH]), past = atomic_load(&rates[of][PAST]);
    int best = past > through ? PAST : THROUGH;
    if (through == 0 || past == 0) return through == 0 ? THROUGH : PAST;
    return atomic_fetch_add(&chunks[of], 1) % AGAIN == AGAIN - 1 ? THROUGH + PAST - best : best;
#else
    (void)of;
    return THROUGH;
#endif
}

/* A slow chunk, for which others had the caches or that was interrupted, says less than a fast one. */
static void learn(int of, int way, double rate) {
    double known = atomic_load(&rates[of][way]);
    atomic_store(&rates[of][way], known == 0 ? rate : known + (rate - known) / (rate > known ? 4 : 16));
}

static void copy_chunk(const Copy *c, size_t at, size_t size) {
    char *to = c->to + at;
    if (to + size > c->warm) enter_pages(to, size);
    if (size < LEAST) {
        memcpy(to, c->from + at, size);
        return;
    }
    int way = c->way == WAYS ? choose(c->of) : c->way;
    double before = spent();
    if (way == PAST) stream(to, c->from + at, size);
    else memcpy(to, c->from + at, size);
    double took = spent() - before;
    if (c->way == WAYS && took > 0) learn(c->of, way, (double)size / took);
}

/* Takes chunks and copies them, most bytes of it. false: there are no more. */
static bool copy_chunks(Copy *c, size_t most) {
    for (size_t mine = 0; mine < most; mine += TAKEN) {
        size_t at = atomic_fetch_add(&c->next, TAKEN);
        if (at >= c->size) return false;
        size_t size = c->size - at < TAKEN ? c->size - at : TAKEN;
        copy_chunk(c, at, size);
        if (atomic_fetch_add(&c->done, size) + size >= atomic_load(&c->end)) {
            atomic_store(&c->whole, 1);
            if (c->shared) wake(&c->whole);
        }
    }
    return true;
}

static void leave(Copy *c) {
    if (atomic_fetch_sub(&c->shares, 1) == 1) free(c);
}

static void *help(void *copy) {
    copy_chunks(copy, SIZE_MAX);
    leave(copy);
    return NULL;
}

/* Has a helper copy, too. */
static void share(Copy *c) {
    sigset_t all, before; /* signals are for Python's threads */
    pthread_attr_t attributes;
    pthread_t helper;
    if (pthread_attr_init(&attributes)) return;
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    atomic_fetch_add(&c->shares, 1);
    c->shared = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool begun = !pthread_create(&helper, &attributes, help, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!begun) {
        c->shared = false;
        leave(c);
    }
}

/* There is a processor for a second thread. */
static bool two_can(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) || CPU_COUNT(&set) > 1;
}

/* Gives alone, or, where a helper has begun, what both share. */
static Copy *begin(Copy *alone, bool two) {
    Copy *c = two && alone->size > TAKEN ? malloc(sizeof *c) : NULL;
    atomic_store(&alone->end, alone->size);
    atomic_store(&alone->shares, 1);
    if (!c) return alone;
    *c = *alone;
    share(c);
    return c;
}

/* Nothing more of it is taken. */
static void stop(Copy *c) {
    size_t taken = atomic_exchange(&c->next, c->size);
    if (taken < c->size) atomic_store(&c->end, taken);
}

/* Waits until all that was taken is copied, by whomever. */
static void end(Copy *c, const Copy *alone) {
    while (atomic_load(&c->done) < atomic_load(&c->end)) nap(&c->whole, 0, 1000);
    if (c != alone) leave(c);
}

/* Mappings. */

/* The size of a huge page; 0: there are none. */
static size_t huge_page(void) {
    char digits[24] = "";
    size_t size = 0;
    int fd = open("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t count = read(fd, digits, sizeof digits - 1);
    close(fd);
    for (ssize_t i = 0; i < count && digits[i] >= '0' && digits[i] <= '9'; i++) size = size * 10 + (size_t)(digits[i] - '0');
    return size & (size - 1) ? 0 : size;
}

/* At an address where the file's huge pages are huge in this process, too. */
static char *map_fitting(int fd, off_t offset, size_t size) {
    size_t huge = huge_page();
    char *at = NULL;
    if (huge && size >= huge) {
        char *room = mmap(NULL, size + huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room != MAP_FAILED) {
            size_t before = ((size_t)offset - (size_t)(uintptr_t)room) & (huge - 1);
            at = room + before;
            if (before) munmap(room, before);
            if (huge > before) munmap(at + size, huge - before);
        }
    }
    char *mapped = mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0), fd, offset);
    if (mapped == MAP_FAILED && at) {
        int error = errno;
        munmap(at, size);
        errno = error;
    }
    return mapped;
}

typedef struct {
    PyObject_HEAD
    char *bytes; /* NULL: closed */
    size_t size;
    size_t warm; /* up to where this process has written */
    pid_t owner; /* in its children something else may be there */
} SlabObject;

static void slab_unmap(SlabObject *s) {
    if (s->bytes && s->owner == getpid()) {
        fade_forget(s->bytes);
        munmap(s->bytes, s->size);
    }
    s->bytes = NULL;
}

static PyObject *slab_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    int fd;
    long long offset;
    Py_ssize_t size;
    static char *names[] = {"fd", "offset", "size", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, named, "iLn", names, &fd, &offset, &size)) return NULL;
    if (size <= 0 || offset < 0) return PyErr_Format(PyExc_ValueError, "a slab of %zd bytes at %lld", size, offset);
    char *bytes = map_fitting(fd, (off_t)offset, (size_t)size);
    if (bytes == MAP_FAILED) return PyErr_SetFromErrno(PyExc_OSError);
    madvise(bytes, (size_t)size, MADV_DONTFORK); /* what a child wrote by mistake others would read */
    madvise(bytes, (size_t)size, MADV_DONTDUMP);
    SlabObject *s = (SlabObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!s) {
        munmap(bytes, (size_t)size);
        return NULL;
    }
    s->bytes = bytes, s->size = (size_t)size, s->warm = 0, s->owner = getpid();
    fade_note(bytes, (size_t)size);
    return (PyObject *)s;
}

static void slab_dealloc(PyObject *self) {
    slab_unmap((SlabObject *)self);
    free_object(self);
}

static PyObject *slab_close(PyObject *self, PyObject *unused) {
    (void)unused;
    slab_unmap((SlabObject *)self);
    Py_RETURN_NONE;
}

/* The address of a view's bytes. It holds what it views, so that nobody resizes that meanwhile. */
static int view_bytes(PyObject *view, const void **at, Py_ssize_t *size) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    return PyObject_AsReadBuffer(view, at, size); /* of those that give an address, the one that Python 3.9's limited interface has */
#pragma GCC diagnostic pop
}

static int fill_one(SlabObject *s, size_t at, PyObject *view, size_t whole) {
    const void *from;
    Py_ssize_t length;
    if (view_bytes(view, &from, &length)) return -1;
    size_t size = (size_t)length;
    if (s->owner != getpid()) {
        PyErr_SetString(PyExc_ValueError, "a slab of the process that made this one by a fork");
        return -1;
    }
    if (!s->bytes || at > s->size || size > s->size - at) {
        PyErr_Format(PyExc_ValueError, "%zu bytes at %zu of a slab of %zu", size, at, s->bytes ? s->size : 0);
        return -1;
    }
    Copy alone = {.to = s->bytes + at, .from = from, .size = size, .warm = size > 4096 ? s->bytes + s->warm : s->bytes + s->size, .of = size_of(whole), .way = WAYS};
    Copy *c = begin(&alone, size >= LARGE && two_can());
    bool more = true, interrupted = false;
    while (more && !interrupted) {
        PyThreadState *state = size >= FREE ? PyEval_SaveThread() : NULL;
        more = copy_chunks(c, PIECE);
        if (!more) end(c, &alone);
        if (state) PyEval_RestoreThread(state);
        interrupted = more && PyErr_CheckSignals();
        if (s->owner != getpid()) { /* a handler has made this child, where nobody helps and no slab is mapped */
            if (!interrupted) PyErr_SetString(PyExc_ValueError, "a slab of the process that made this one by a fork");
            return -1;
        }
    }
    if (interrupted) {
        stop(c);
        end(c, &alone);
        return -1;
    }
    if (at + size > s->warm) s->warm = at + size;
    return 0;
}

static PyObject *slab_fill(PyObject *self, PyObject *args) {
    Py_ssize_t at, whole = 0;
    PyObject *parts;
    if (!PyArg_ParseTuple(args, "nO", &at, &parts)) return NULL;
    PyObject *views = PySequence_List(parts);
    Py_ssize_t count = views ? PyList_Size(views) : 0;
    for (Py_ssize_t i = 0; views && i < count; i++) {
        const void *from;
        Py_ssize_t size;
        PyObject *view = PyMemoryView_FromObject(PyList_GetItem(views, i));
        if (!view || PyList_SetItem(views, i, view) || view_bytes(view, &from, &size)) Py_CLEAR(views);
        else whole += size;
    }
    for (Py_ssize_t i = 0; views && i < count; i++) {
        PyObject *view = PyList_GetItem(views, i);
        const void *from;
        Py_ssize_t size = 0;
        if (at < 0 || fill_one((SlabObject *)self, (size_t)at, view, (size_t)whole) || view_bytes(view, &from, &size)) {
            if (at < 0) PyErr_SetString(PyExc_ValueError, "a slab begins at 0");
            Py_CLEAR(views);
        }
        at += size;
    }
    if (!views) return NULL;
    Py_DECREF(views);
    Py_RETURN_NONE;
}

/* copy(to, source, two, stream): as large values are copied, in a way that is told. */
static PyObject *py_copy(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *target, *source;
    int two, past;
    const void *from;
    void *to;
    Py_ssize_t room, size;
    if (!PyArg_ParseTuple(args, "OOpp", &target, &source, &two, &past)) return NULL;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    if (PyObject_AsWriteBuffer(target, &to, &room) || PyObject_AsReadBuffer(source, &from, &size)) return NULL;
#pragma GCC diagnostic pop
    if (room < size) return PyErr_Format(PyExc_ValueError, "%zd bytes into %zd", size, room);
    Py_BEGIN_ALLOW_THREADS
    Copy alone = {.to = to, .from = from, .size = (size_t)size, .warm = (char *)to + size, .way = past ? PAST : THROUGH};
    Copy *c = begin(&alone, two);
    copy_chunks(c, SIZE_MAX);
    end(c, &alone);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_ways(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < SIZES * WAYS; i++) {
        PyObject *one = PyFloat_FromDouble(atomic_load(&rates[i / WAYS][i % WAYS]));
        if (!one || PyList_Append(list, one)) Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

static PyObject *huge(PyObject *module, PyObject *args) {
    (void)module;
    enum { COLLAPSE = 25, LARGE = 2 << 20 }; /* MADV_COLLAPSE of Linux 6.1 */
    unsigned long long from, to;
    if (!PyArg_ParseTuple(args, "KK", &from, &to)) return NULL;
    from = (from + LARGE - 1) / LARGE * LARGE, to = to / LARGE * LARGE;
    bool all = from < to, goes = true;
    Py_BEGIN_ALLOW_THREADS
    for (; goes && from < to; from += LARGE) {
        int failed = -1;
        for (int tries = 0; failed && tries < 3; tries++) { /* a page may be on its way between the kernel's lists */
            failed = madvise((void *)(uintptr_t)from, LARGE, COLLAPSE);
            if (failed && errno != EAGAIN) break;
        }
        all = all && !failed;
        goes = !failed || errno != EINVAL; /* it knows nothing of it, or must not */
    }
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(all);
}

static PyMethodDef slab_methods[] = {{"fill", slab_fill, METH_VARARGS, NULL}, {"close", slab_close, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyType_Slot slab_slots[] = {{Py_tp_new, slab_new}, {Py_tp_dealloc, slab_dealloc}, {Py_tp_methods, slab_methods}, {0, NULL}};
static PyType_Spec slab_spec = {"maniple._core._fast.Slab", sizeof(SlabObject), 0, Py_TPFLAGS_DEFAULT, slab_slots};
static PyMethodDef copy_functions[] = {{"copy", py_copy, METH_VARARGS, NULL}, {"ways", py_ways, METH_NOARGS, NULL}, {"huge", huge, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

int add_slab(PyObject *module) {
    PyObject *type = PyType_FromSpec(&slab_spec);
    return type ? PyModule_AddObject(module, "Slab", type) || PyModule_AddFunctions(module, copy_functions) : -1;
}
