/* What this process has of values in its page table, kept small where that counts for each process that has them there: see arenas.
 *
 * Memory is entered at tens of gibibytes a second, by a look that may hold the interpreter's lock all the while. So a thread of its own looks,
 * the sooner the nearer it is to the most, and takes all of it out: it comes back, unchanged, at the next look. Nothing else maps an address
 * while it is noted here, as it is forgotten before it is unmapped, with nothing of Python between. */
#define _GNU_SOURCE
#include "_fast_python.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

OLD_NAME(pthread_create);
OLD_NAME(pthread_attr_setdetachstate);
OLD_NAME(pthread_attr_setstacksize);
OLD_NAME(pthread_sigmask);

enum {
    SOONEST = 500 * 1000,     /* nanoseconds between two looks */
    LATEST = 10 * 1000 * 1000,
    RATE = 32,                /* bytes that are entered in a nanosecond, by a fast processor that looks at one of each page */
    STILL = 20,               /* looks at the same: nobody looks at it */
    STACK = 256 << 10,
};

typedef struct {
    char *at; /* NULL: none */
    size_t size;
} Range;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t more;
    Range *list;
    size_t count, room, total; /* of the list; bytes of all */
    size_t most;               /* bytes that may be in the page table; 0: any */
    bool watched;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

/* A fork's child has none of it: its parent's thread is not there, nor what its parent writes. */
static void forked(void) {
    pthread_mutex_init(&all.lock, NULL);
    pthread_cond_init(&all.more, NULL);
    all.count = all.total = all.most = 0, all.watched = false;
}

void fade_note(char *at, size_t size) {
    pthread_mutex_lock(&all.lock);
    if (all.count == all.room) {
        size_t room = all.room ? 2 * all.room : 16;
        Range *list = realloc(all.list, room * sizeof *list);
        if (list) all.list = list, all.room = room;
    }
    if (all.count < all.room) { /* else it stays where it is */
        all.list[all.count++] = (Range){at, size}, all.total += size;
        pthread_cond_signal(&all.more);
    }
    pthread_mutex_unlock(&all.lock);
}

void fade_forget(const char *at) {
    pthread_mutex_lock(&all.lock);
    for (size_t i = all.count; i-- > 0;) {
        if (all.list[i].at == at) {
            all.total -= all.list[i].size, all.list[i] = all.list[--all.count];
            break;
        }
    }
    pthread_mutex_unlock(&all.lock);
}

/* Between two ranges others may note and forget theirs: one that moves meanwhile has its turn at the next look. */
static void fade_all(size_t least) {
    for (size_t i = 0;; i++) {
        pthread_mutex_lock(&all.lock);
        bool some = i < all.count;
        if (some && all.list[i].size >= least) madvise(all.list[i].at, all.list[i].size, MADV_DONTNEED);
        pthread_mutex_unlock(&all.lock);
        if (!some) return;
    }
}

static size_t read_file(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0) close(fd);
    text[count > 0 ? count : 0] = 0;
    return count > 0 ? (size_t)count : 0;
}

/* What is in the page table of shared memory, in bytes; what is less than this may be said to be more: files are counted with it. */
static size_t entered(size_t enough) {
    char text[4096];
    read_file("/proc/self/statm", text, sizeof text);
    char *word = strchr(text, ' ');
    word = word ? strchr(word + 1, ' ') : NULL;
    size_t shared = word ? (size_t)strtoull(word, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
    if (shared <= enough) return shared;
    read_file("/proc/self/status", text, sizeof text);
    word = strstr(text, "RssShmem:");
    return word ? (size_t)strtoull(word + 9, NULL, 10) << 10 : shared;
}

static void *watch(void *unused) {
    (void)unused;
    size_t before = 0;
    for (int still = 0;;) {
        pthread_mutex_lock(&all.lock);
        while (!all.most || all.total <= all.most) pthread_cond_wait(&all.more, &all.lock);
        size_t most = all.most;
        pthread_mutex_unlock(&all.lock);
        size_t have = entered(most / 2);
        still = have == before ? still + 1 : 0;
        if (have > most || (have > most / 2 && still >= STILL)) fade_all(0), have = 0, still = 0;
        before = have;
        long pause = (long)((most - have) / RATE);
        struct timespec t = {0, pause < SOONEST ? SOONEST : pause > LATEST ? LATEST : pause};
        nanosleep(&t, NULL);
    }
    return NULL;
}

/* With all.lock. Without a thread nothing fades by itself. */
static void start(void) {
    pthread_t thread;
    pthread_attr_t how;
    sigset_t every, before;
    if (all.watched || pthread_attr_init(&how)) return;
    sigfillset(&every);
    pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&how, STACK);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    all.watched = !pthread_create(&thread, &how, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&how);
}

/* Python. */

static PyObject *most(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long bytes;
    if (!PyArg_ParseTuple(args, "K", &bytes)) return NULL;
    pthread_mutex_lock(&all.lock);
    all.most = (size_t)bytes;
    if (all.most) start();
    pthread_cond_signal(&all.more);
    pthread_mutex_unlock(&all.lock);
    Py_RETURN_NONE;
}

static PyObject *fade(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long least;
    if (!PyArg_ParseTuple(args, "K", &least)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    fade_all((size_t)least);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* The memory of a Shared, which is a mmap.mmap; NULL: it is closed. */
static const char *memory(PyObject *shared, Py_ssize_t *size) {
    const void *at = NULL;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    if (PyObject_AsReadBuffer(shared, &at, size)) return NULL; /* as in _fast_copy.c */
#pragma GCC diagnostic pop
    return at;
}

static PyObject *shared_note(PyObject *self, PyObject *unused) {
    (void)unused;
    Py_ssize_t size;
    const char *at = memory(self, &size);
    if (!at) return NULL;
    fade_note((char *)(uintptr_t)at, (size_t)size);
    Py_RETURN_NONE;
}

static void forget(PyObject *self) {
    PyObject *type, *value, *trace;
    Py_ssize_t size;
    PyErr_Fetch(&type, &value, &trace);
    const char *at = memory(self, &size);
    if (at) fade_forget(at);
    PyErr_Restore(type, value, trace);
}

static PyObject *shared_close(PyObject *self, PyObject *unused) {
    (void)unused;
    forget(self);
    PyObject *mmap = PyImport_ImportModule("mmap"), *base = mmap ? PyObject_GetAttrString(mmap, "mmap") : NULL;
    PyObject *done = base ? PyObject_CallMethod(base, "close", "O", self) : NULL;
    Py_XDECREF(mmap);
    Py_XDECREF(base);
    return done;
}

static PyMethodDef shared_methods[] = {{"note", shared_note, METH_NOARGS, NULL}, {"close", shared_close, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyType_Slot shared_slots[] = {{Py_tp_finalize, forget}, {Py_tp_methods, shared_methods}, {0, NULL}};
static PyType_Spec shared_spec = {"maniple._core._fast.Shared", 0, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_FINALIZE, shared_slots};
static PyMethodDef functions[] = {{"most", most, METH_VARARGS, NULL}, {"fade", fade, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

int add_fade(PyObject *module) {
    static bool once;
    if (!once && pthread_atfork(NULL, NULL, forked)) return -1;
    once = true;
    PyObject *mmap = PyImport_ImportModule("mmap"), *base = mmap ? PyObject_GetAttrString(mmap, "mmap") : NULL;
    PyObject *bases = base ? PyTuple_Pack(1, base) : NULL;
    PyObject *type = bases ? PyType_FromSpecWithBases(&shared_spec, bases) : NULL;
    Py_XDECREF(mmap);
    Py_XDECREF(base);
    Py_XDECREF(bases);
    return type ? PyModule_AddObject(module, "Shared", type) || PyModule_AddFunctions(module, functions) : -1;
}
