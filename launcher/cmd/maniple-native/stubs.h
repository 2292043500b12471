#ifndef MANIPLE_NATIVE_STUBS_H
#define MANIPLE_NATIVE_STUBS_H

// load_nvml loads NVML for good, and gives the loader's message if it can't.
const char *load_nvml(const char *path);

#endif
