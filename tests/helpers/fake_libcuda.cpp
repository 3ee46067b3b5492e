// A driver that shows GPUS devices, or fails with ERROR: what runtime/kernels/nvidia.py asks, and no more.
#include <cstring>

extern "C" {
int cuInit(unsigned) { return ERROR; }
int cuDeviceGetCount(int* count) { return *count = GPUS, 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal < GPUS ? 0 : 101; }
int cuDeviceGetName(char* name, int length, int) { return std::strncpy(name, "NVIDIA Abacus", length), 0; }
int cuDriverGetVersion(int* version) { return *version = 13020, 0; }
int cuDeviceGetAttribute(int* value, int which, int) { return *value = which == 75 ? 12 : which == 76 ? 1 : -1, 0; }
}
