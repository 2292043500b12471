// What go-nvml calls and leaves to the dynamic linker to find, is defined here: functions that pass on what they were given
// to the one of the library that was loaded, or say that there is none. So the program links and starts with every
// linker (zig's binds all symbols at the start), and a function that an old driver lacks is an error and not the end of the process.
// They have six arguments at most, numbers and pointers, which all go by registers: who takes fewer does not look at the others.
#define _GNU_SOURCE
#include "stubs.h"

#include <dlfcn.h>
#include <stddef.h>

typedef long (*function)(long, long, long, long, long, long);

enum { not_found = 13 }; // NVML_ERROR_FUNCTION_NOT_FOUND

#define NVML(name) at_##name,
enum {
#include "symbols.h"
	count
};
#undef NVML

#define NVML(name) #name,
static const char *const names[] = {
#include "symbols.h"
};
#undef NVML

static function found[count];

#define NVML(name)                                                                          \
	__attribute__((visibility("hidden"))) long name(long a, long b, long c, long d, long e, long f) \
	{                                                                                   \
		function to = found[at_##name];                                             \
		return to ? to(a, b, c, d, e, f) : not_found;                               \
	}
#include "symbols.h"
#undef NVML

static const char *(*error_string)(int);

__attribute__((visibility("hidden"))) const char *nvmlErrorString(int code)
{
	return error_string ? error_string(code) : "the library has no text for it";
}

const char *load_nvml(const char *path)
{
	void *library = dlopen(path, RTLD_LAZY | RTLD_GLOBAL);
	if (!library)
		return dlerror();
	for (int i = 0; i < count; i++)
		found[i] = (function)dlsym(library, names[i]);
	error_string = (const char *(*)(int))dlsym(library, "nvmlErrorString");
	return NULL;
}
