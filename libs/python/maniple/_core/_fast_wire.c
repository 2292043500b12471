/* Tables as dicts, as frames.pack and frames.unpack have them. What is not plain is left to those, which say what is wrong with it. */
#define _GNU_SOURCE
#include "_fast_python.h"

#include <stdlib.h>
#include <string.h>

enum { NUMBER, STRUCT, STRING, BYTES, TABLE };

/* A struct inside tables: its numbers by the letters of Python's struct, x for a byte of padding. */
typedef struct {
    char name[32], letters[32];
    PyObject *type; /* the named tuple */
    int count;      /* of numbers */
    uint32_t size, align;
} Part;

typedef struct Layout Layout;

typedef struct {
    PyObject *name;
    int kind;
    bool vector;
    char letter; /* of a NUMBER */
    uint32_t size, align, each; /* in the table; of a vector's elements */
    long long absent;
    const Part *part;
    Layout *table;
} Field;

struct Layout {
    char name[32];
    int count;
    Field *fields;
};

static Layout *layouts;
static Part *parts;
static Py_ssize_t tables, structs;
static PyObject *numbers; /* of layouts, by name */
static PyObject *new_tuple;

static uint32_t size_of(char letter) {
    switch (letter) {
    case 'B': case '?': case 'x': return 1;
    case 'H': return 2;
    case 'I': case 'i': return 4;
    case 'Q': case 'q': return 8;
    }
    return 0;
}

/* Learning the layouts. -1: they have what is not known here. */

static int learn_part(Part *p, PyObject *name, PyObject *given) {
    PyObject *format = PyObject_GetAttrString(PyTuple_GetItem(given, 1), "format"), *text = format ? PyUnicode_AsASCIIString(format) : NULL;
    PyObject *own = text ? PyUnicode_AsASCIIString(name) : NULL;
    int good = own && PyBytes_Size(own) < (Py_ssize_t)sizeof p->name && PyBytes_AsString(text)[0] == '<';
    const char *c = good ? PyBytes_AsString(text) + 1 : "";
    if (good) strcpy(p->name, PyBytes_AsString(own));
    for (size_t at = 0; *c; c++) {
        long times = 1;
        if (*c >= '0' && *c <= '9') {
            char *end;
            times = strtol(c, &end, 10);
            c = end;
        }
        if (!size_of(*c) || at + (size_t)times >= sizeof p->letters) return -1;
        p->count += *c == 'x' ? 0 : (int)times;
        p->size += (uint32_t)times * size_of(*c);
        while (times--) p->letters[at++] = *c;
    }
    p->align = (uint32_t)PyLong_AsLong(PyTuple_GetItem(given, 2));
    p->type = PyTuple_GetItem(given, 0);
    Py_INCREF(p->type);
    Py_XDECREF(format);
    Py_XDECREF(text);
    Py_XDECREF(own);
    return good && p->size ? 0 : -1;
}

/* name:type=default, where a type in brackets is a vector of it. */
static int learn_field(Field *f, char *text) {
    char *type = strchr(text, ':');
    if (!type) return -1;
    *type++ = 0;
    char *given = strchr(type, '=');
    if (given) *given++ = 0;
    if ((f->vector = *type == '[')) *strchr(++type, ']') = 0;
    f->name = PyUnicode_InternFromString(text);
    f->size = f->align = f->each = 4;
    for (Py_ssize_t i = 0; i < structs && !f->part; i++)
        if (!strcmp(parts[i].name, type)) f->part = &parts[i];
    for (Py_ssize_t i = 0; i < tables && !f->table; i++)
        if (!strcmp(layouts[i].name, type)) f->table = &layouts[i];
    if (f->part) {
        f->kind = STRUCT, f->size = f->part->size, f->align = f->part->align;
        return f->vector ? -1 : 0;
    }
    if (type[0] && !type[1]) {
        f->kind = NUMBER, f->letter = type[0], f->each = size_of(type[0]);
        if (!f->vector) f->size = f->align = f->each;
        if (given) f->absent = strtoll(given, NULL, 10);
        return f->each ? 0 : -1;
    }
    f->kind = f->table ? TABLE : !strcmp(type, "string") ? STRING : BYTES;
    if (f->kind == BYTES) f->each = 1;
    return f->kind == BYTES && (f->vector || strcmp(type, "bytes")) ? -1 : 0;
}

static int learn_fields(Layout *l, PyObject *text) {
    PyObject *bytes = PyUnicode_AsASCIIString(text);
    if (!bytes) return -1;
    char *copy = strdup(PyBytes_AsString(bytes)), *rest = copy, *each;
    Py_DECREF(bytes);
    size_t count = 1;
    for (const char *c = copy; c && *c; c++) count += *c == ' ';
    l->fields = copy ? calloc(count, sizeof *l->fields) : NULL;
    int failed = l->fields ? 0 : -1;
    while (!failed && (each = strsep(&rest, " ")))
        if (*each) failed = learn_field(&l->fields[l->count++], each);
    free(copy);
    return failed;
}

static int learn(PyObject *given_tables, PyObject *given_parts) {
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(given_parts, &at, &key, &value))
        if (learn_part(&parts[structs++], key, value)) return -1;
    for (at = 0; PyDict_Next(given_tables, &at, &key, &value);) {
        PyObject *name = PyUnicode_AsASCIIString(key), *number = PyLong_FromSsize_t(tables);
        int failed = !name || !number || PyBytes_Size(name) >= (Py_ssize_t)sizeof layouts->name || PyDict_SetItem(numbers, key, number);
        if (!failed) strcpy(layouts[tables++].name, PyBytes_AsString(name));
        Py_XDECREF(name);
        Py_XDECREF(number);
        if (failed) return -1;
    }
    Py_ssize_t i = 0;
    for (at = 0; PyDict_Next(given_tables, &at, &key, &value); i++)
        if (learn_fields(&layouts[i], value)) return -1;
    return 0;
}

static PyObject *py_layouts(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *given_tables, *given_parts;
    if (!PyArg_ParseTuple(args, "O!O!", &PyDict_Type, &given_tables, &PyDict_Type, &given_parts)) return NULL;
    if (numbers) Py_RETURN_NONE;
    layouts = calloc((size_t)PyDict_Size(given_tables), sizeof *layouts);
    parts = calloc((size_t)PyDict_Size(given_parts), sizeof *parts);
    numbers = PyDict_New();
    new_tuple = PyObject_GetAttrString((PyObject *)&PyTuple_Type, "__new__");
    if (!layouts || !parts || !numbers || !new_tuple) return PyErr_NoMemory();
    if (learn(given_tables, given_parts)) return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "a table has a field of a type that is not known here");
    Py_RETURN_NONE;
}

static Layout *layout_of(PyObject *name) {
    PyObject *number = numbers ? PyDict_GetItemWithError(numbers, name) : NULL;
    return number ? &layouts[PyLong_AsSsize_t(number)] : NULL;
}

/* Reading: checks before it reads; left is what may still be reached, so nothing counts twice. NULL without an error: no honest peer sent that. */

typedef struct {
    const uint8_t *body;
    int64_t size, left;
    uint32_t tables;
} Reader;

static uint32_t get16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

static PyObject *number_at(char letter, const uint8_t *p) {
    switch (letter) {
    case '?': return PyBool_FromLong(p[0]);
    case 'B': return PyLong_FromLong(p[0]);
    case 'H': return PyLong_FromLong((long)get16(p));
    case 'i': return PyLong_FromLong((int32_t)get32(p));
    case 'I': return PyLong_FromUnsignedLong(get32(p));
    case 'q': return PyLong_FromLongLong((int64_t)get64(p));
    }
    return PyLong_FromUnsignedLongLong(get64(p));
}

/* p NULL: it is absent. */
static PyObject *part_at(const Part *part, const uint8_t *p) {
    static const uint8_t zeros[8];
    PyObject *tuple = PyTuple_New(part->count);
    Py_ssize_t i = 0;
    for (const char *c = part->letters; tuple && *c; c++) {
        PyObject *number = *c == 'x' ? NULL : number_at(*c, p ? p : zeros);
        if (p) p += size_of(*c);
        if (*c == 'x') continue;
        if (!number) Py_CLEAR(tuple);
        else PyTuple_SetItem(tuple, i++, number);
    }
    PyObject *made = tuple ? PyObject_CallFunctionObjArgs(new_tuple, part->type, tuple, NULL) : NULL;
    Py_XDECREF(tuple);
    return made;
}

static PyObject *absent(const Field *f) {
    if (f->vector) return PyList_New(0);
    switch (f->kind) {
    case NUMBER: return f->letter == '?' ? PyBool_FromLong(f->absent == 1) : PyLong_FromLongLong(f->absent);
    case STRUCT: return part_at(f->part, NULL);
    case STRING: return PyUnicode_FromStringAndSize(NULL, 0);
    case BYTES: return PyBytes_FromStringAndSize(NULL, 0);
    }
    Py_RETURN_NONE;
}

static bool spend(Reader *r, int64_t n) { return (r->left -= n) >= 0; }

/* Where an offset leads; -1: nowhere. */
static int64_t follow(const Reader *r, int64_t place) {
    int64_t off = get32(r->body + place), to = place + off;
    return off && to % 4 == 0 && to <= r->size - 4 ? to : -1;
}

static PyObject *string_at(Reader *r, int64_t place) {
    int64_t at = follow(r, place);
    if (at < 0) return NULL;
    int64_t n = get32(r->body + at);
    if (n > r->size - at - 5 || r->body[at + 4 + n] || !spend(r, n + 5)) return NULL;
    return PyUnicode_DecodeUTF8((const char *)r->body + at + 4, (Py_ssize_t)n, "surrogateescape");
}

static PyObject *table_at(Reader *r, int64_t at, const Layout *l, uint32_t depth);

static PyObject *vector_at(Reader *r, const Field *f, int64_t place, uint32_t depth) {
    int64_t at = follow(r, place);
    if (at < 0) return NULL;
    int64_t n = get32(r->body + at);
    at += 4;
    if (n > (r->size - at) / f->each || at % f->each || !spend(r, 4 + n * f->each)) return NULL;
    if (f->kind == BYTES) return PyBytes_FromStringAndSize((const char *)r->body + at, (Py_ssize_t)n);
    PyObject *list = PyList_New(0);
    for (; list && n; n--, at += f->each) {
        PyObject *each = NULL;
        if (f->kind == NUMBER) each = number_at(f->letter, r->body + at);
        else if (f->kind == STRING) each = string_at(r, at);
        else if ((place = follow(r, at)) >= 0) each = table_at(r, place, f->table, depth + 1);
        if (!each || PyList_Append(list, each)) Py_CLEAR(list);
        Py_XDECREF(each);
    }
    return list;
}

static PyObject *field_at(Reader *r, const Field *f, int64_t place, uint32_t depth) {
    if (f->vector || f->kind == BYTES) return vector_at(r, f, place, depth);
    switch (f->kind) {
    case NUMBER: return number_at(f->letter, r->body + place);
    case STRUCT: return part_at(f->part, r->body + place);
    case STRING: return string_at(r, place);
    }
    int64_t to = follow(r, place);
    return to < 0 ? NULL : table_at(r, to, f->table, depth + 1);
}

static PyObject *table_at(Reader *r, int64_t at, const Layout *l, uint32_t depth) {
    if (at % 4 || at > r->size - 4) return NULL;
    int64_t vt = at - (int32_t)get32(r->body + at);
    if (vt < 0 || vt > r->size - 4 || vt % 2) return NULL;
    int64_t slots = get16(r->body + vt);
    if (slots < 4 || slots > r->size - vt || slots % 2 || depth > MANIPLE_MAX_DEPTH || ++r->tables > MANIPLE_MAX_TABLES || !spend(r, 4)) return NULL;
    PyObject *out = PyDict_New();
    for (int i = 0; out && i < l->count; i++) {
        const Field *f = &l->fields[i];
        int64_t slot = 4 + 2 * i, off = slot < slots ? get16(r->body + vt + slot) : 0, place = at + off;
        PyObject *value = NULL;
        if (!off) value = absent(f);
        else if (off >= 4 && place <= r->size - f->size && place % f->align == 0 && spend(r, f->size)) value = field_at(r, f, place, depth);
        if (!value || PyDict_SetItem(out, f->name, value)) Py_CLEAR(out);
        Py_XDECREF(value);
    }
    return out;
}

static PyObject *py_unpack(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *name;
    const char *body;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Oy#", &name, &body, &size)) return NULL;
    const Layout *l = layout_of(name);
    PyObject *out = NULL;
    if (l && size >= 8 && size <= MANIPLE_MAX_MESSAGE) {
        Reader r = {(const uint8_t *)body, size, size - 4, 0};
        out = table_at(&r, get32(r.body), l, 1);
    }
    if (!out && !PyErr_Occurred()) Py_RETURN_NONE;
    return out;
}

/* Writing, front to back: vtable, table, then what it points to. false without an error: Python is to say what is wrong. */

typedef struct {
    uint8_t *out;
    size_t size, room;
    uint32_t tables;
} Writer;

/* Place for so many bytes, which are zero; false without memory. */
static bool extend(Writer *w, size_t n) {
    if (w->size + n > w->room) {
        size_t room = w->room ? w->room : 256;
        while (room < w->size + n) room *= 2;
        uint8_t *made = w->size + n > MANIPLE_MAX_MESSAGE ? NULL : realloc(w->out, room);
        if (!made) return false;
        w->out = made, w->room = room;
    }
    memset(w->out + w->size, 0, n);
    w->size += n;
    return true;
}

/* Zeros until size + behind is rest, modulo align. */
static bool pad(Writer *w, size_t behind, size_t align, size_t rest) { return extend(w, (rest + align - (w->size + behind) % align) % align); }

static void put16(uint8_t *p, size_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }

static void point(Writer *w, size_t place, size_t to) { put32(w->out + place, (uint32_t)(to - place)); }

static bool put_vector(Writer *w, size_t place, size_t n, size_t align) {
    if (!pad(w, 4, align, 0) || !extend(w, 4)) return false;
    point(w, place, w->size - 4);
    put32(w->out + w->size - 4, (uint32_t)n);
    return true;
}

static bool put_number(uint8_t *p, char letter, PyObject *v) {
    if (!PyLong_Check(v)) return false; /* what else counts as a number or as true may run code */
    if (letter == '?') {
        p[0] = v == Py_True;
        return v == Py_True || v == Py_False;
    }
    if (letter == 'Q') {
        unsigned long long u = PyLong_AsUnsignedLongLong(v);
        put64(p, u);
        return u != (unsigned long long)-1 || !PyErr_Occurred();
    }
    long long n = PyLong_AsLongLong(v);
    if (n == -1 && PyErr_Occurred()) return false;
    switch (letter) {
    case 'B': p[0] = (uint8_t)n; return n >= 0 && n <= UINT8_MAX;
    case 'H': put16(p, (size_t)n); return n >= 0 && n <= UINT16_MAX;
    case 'I': put32(p, (uint32_t)n); return n >= 0 && n <= UINT32_MAX;
    case 'i': put32(p, (uint32_t)n); return n >= INT32_MIN && n <= INT32_MAX;
    }
    put64(p, (uint64_t)n);
    return true;
}

static bool put_part(uint8_t *p, const Part *part, PyObject *v) {
    Py_ssize_t i = 0;
    if (!PyTuple_Check(v) || PyTuple_Size(v) != part->count) return false;
    for (const char *c = part->letters; *c; p += size_of(*c), c++)
        if (*c != 'x' && !put_number(p, *c, PyTuple_GetItem(v, i++))) return false;
    return true;
}

/* end: of a string, a zero. */
static bool put_bytes(Writer *w, size_t place, PyObject *bytes, size_t end) {
    size_t n = (size_t)PyBytes_Size(bytes);
    if (!put_vector(w, place, n, 4) || !extend(w, n + end)) return false;
    memcpy(w->out + w->size - n - end, PyBytes_AsString(bytes), n);
    return true;
}

static bool put_string(Writer *w, size_t place, PyObject *v) {
    if (PyBytes_Check(v)) return put_bytes(w, place, v, 1);
    PyObject *bytes = PyUnicode_Check(v) ? PyUnicode_AsEncodedString(v, "utf-8", "surrogateescape") : NULL;
    bool good = bytes && put_bytes(w, place, bytes, 1);
    Py_XDECREF(bytes);
    return good;
}

static bool put_table(Writer *w, size_t place, const Layout *l, PyObject *value, uint32_t depth);

static bool put_list(Writer *w, size_t place, const Field *f, PyObject *v, uint32_t depth) {
    bool list = PyList_Check(v);
    if (!list && !PyTuple_Check(v)) return false;
    size_t n = (size_t)(list ? PyList_Size(v) : PyTuple_Size(v)), align = f->each < 4 ? 4 : f->each;
    if (!put_vector(w, place, n, align) || !extend(w, n * f->each)) return false;
    place = w->size - n * f->each;
    for (size_t i = 0; i < n; i++, place += f->each) {
        if (list && (Py_ssize_t)i >= PyList_Size(v)) return false;
        PyObject *each = list ? PyList_GetItem(v, (Py_ssize_t)i) : PyTuple_GetItem(v, (Py_ssize_t)i);
        if (f->kind == NUMBER ? !put_number(w->out + place, f->letter, each) : f->kind == STRING ? !put_string(w, place, each) : !put_table(w, place, f->table, each, depth + 1)) return false;
    }
    return true;
}

static bool put_field(Writer *w, size_t place, const Field *f, PyObject *v, uint32_t depth) {
    if (f->vector) return put_list(w, place, f, v, depth);
    switch (f->kind) {
    case NUMBER: return put_number(w->out + place, f->letter, v);
    case STRUCT: return put_part(w->out + place, f->part, v);
    case STRING: return put_string(w, place, v);
    case BYTES: return PyBytes_Check(v) && put_bytes(w, place, v, 0);
    }
    return put_table(w, place, f->table, v, depth + 1);
}

/* place: of what points to it. */
static bool put_table(Writer *w, size_t place, const Layout *l, PyObject *value, uint32_t depth) {
    enum { FIELDS = 64 };
    PyObject *have[FIELDS] = {NULL};
    if (!PyDict_Check(value) || l->count > FIELDS || depth > MANIPLE_MAX_DEPTH || ++w->tables > MANIPLE_MAX_TABLES) return false;
    Py_ssize_t known = 0;
    size_t slots = 0, size = 4;
    for (int i = 0; i < l->count; i++) {
        have[i] = PyDict_GetItemWithError(value, l->fields[i].name);
        if (!have[i] && PyErr_Occurred()) return false;
        known += have[i] != NULL;
        if (have[i] == Py_None) have[i] = NULL;
        if (have[i]) slots = (size_t)i + 1, size += l->fields[i].size;
    }
    size_t vtable = 4 + 2 * slots, at = 4;
    if (known != PyDict_Size(value) || !pad(w, vtable, 8, 4) || !extend(w, vtable + size)) return false; /* so that 4 bytes into the table is a multiple of 8 */
    size_t pos = w->size - size;
    point(w, place, pos);
    put32(w->out + pos, (uint32_t)vtable);
    put16(w->out + pos - vtable, vtable);
    put16(w->out + pos - vtable + 2, size);
    for (uint32_t align = 8; align; align /= 2) {
        for (int i = 0; i < l->count; i++) {
            const Field *f = &l->fields[i];
            if (!have[i] || f->align != align) continue;
            put16(w->out + pos - vtable + 4 + 2 * i, at);
            Py_INCREF(have[i]);
            bool good = put_field(w, pos + at, f, have[i], depth);
            Py_DECREF(have[i]);
            if (!good) return false;
            at += f->size;
        }
    }
    return true;
}

static PyObject *py_pack(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *name, *value;
    if (!PyArg_ParseTuple(args, "OO", &name, &value)) return NULL;
    const Layout *l = layout_of(name);
    Writer w = {NULL, 0, 0, 0};
    PyObject *made = NULL;
    if (l && extend(&w, 4) && put_table(&w, 0, l, value, 1)) made = PyBytes_FromStringAndSize((const char *)w.out, (Py_ssize_t)w.size);
    free(w.out);
    if (made) return made;
    PyErr_Clear();
    Py_RETURN_NONE;
}

PyMethodDef wire_functions[] = {{"layouts", py_layouts, METH_VARARGS, NULL}, {"unpack", py_unpack, METH_VARARGS, NULL}, {"pack", py_pack, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
