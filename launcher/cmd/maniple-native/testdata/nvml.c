// A stand-in for libnvidia-ml.so.1: two GPUs of an older driver, which lacks many functions. FAKE_NVML in the environment
// says how it fails: "begin" at the start, "crash" and "hang" when a device's memory is read.
#include "nvml.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct nvmlDevice_st {
	int index;
} cards[2] = {{0}, {1}};

static int fails(const char *how)
{
	const char *s = getenv("FAKE_NVML");
	return s && strcmp(s, how) == 0;
}

nvmlReturn_t nvmlInit_v2(void) { return fails("begin") ? NVML_ERROR_DRIVER_NOT_LOADED : NVML_SUCCESS; }
const char *nvmlErrorString(nvmlReturn_t r) { return r == NVML_ERROR_DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Fake Error"; }

nvmlReturn_t nvmlSystemGetDriverVersion(char *s, unsigned int n)
{
	snprintf(s, n, "470.1");
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *n)
{
	*n = 2;
	return NVML_SUCCESS;
}

// As on real machines, not in the order of the bus.
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int i, nvmlDevice_t *d)
{
	d->handle = &cards[1 - i];
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *s, unsigned int n)
{
	snprintf(s, n, "GPU-%d", d.handle->index);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *s, unsigned int n)
{
	snprintf(s, n, "NVIDIA Fake-%dGB", 40 + d.handle->index);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t d, nvmlPciInfo_t *p)
{
	memset(p, 0, sizeof *p);
	p->bus = 0x3b + d.handle->index;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t d, unsigned int *n)
{
	*n = d.handle->index;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t d, int *major, int *minor)
{
	*major = 9, *minor = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *m)
{
	if (fails("crash"))
		raise(SIGSEGV);
	while (fails("hang"))
		pause();
	m->total = 40ULL << 30;
	m->used = (1ULL + d.handle->index) << 30;
	m->free = m->total - m->used;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *u)
{
	u->gpu = 97 - d.handle->index, u->memory = 31;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t d, nvmlTemperatureSensors_t s, unsigned int *t)
{
	*t = 61;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t d, unsigned int *mw)
{
	*mw = 399500;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t d, unsigned long long *mask)
{
	*mask = d.handle->index ? 0x41 : 0x1;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t d, nvmlMemoryErrorType_t t, nvmlEccCounterType_t c, unsigned long long *n)
{
	*n = d.handle->index ? 2 : 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t d, unsigned int *c, unsigned int *u, unsigned int *pending, unsigned int *failed)
{
	*c = *u = 0, *pending = d.handle->index, *failed = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t d, unsigned int link, nvmlEnableState_t *on)
{
	*on = link < 4;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t d, unsigned int link, nvmlPciInfo_t *p)
{
	nvmlDevice_t other = {&cards[1 - d.handle->index]};
	return nvmlDeviceGetPciInfo_v3(other, p);
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuTopologyLevel_t *level)
{
	*level = NVML_TOPOLOGY_SYSTEM;
	return NVML_SUCCESS;
}
