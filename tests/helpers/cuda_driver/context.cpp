// The device and its primary context, which is current on a thread where it was pushed last.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "state.h"

static int primary;  // its address is the handle
static thread_local std::vector<CUcontext> pushed;

static CUcontext handle() { return reinterpret_cast<CUcontext>(&primary); }

CUcontext primary_context() { return handle(); }

bool context_is_current() { return state().retained > 0 && !pushed.empty() && pushed.back() == handle(); }

int contexts_pushed() { return static_cast<int>(pushed.size()); }

static std::string setting(const char* name, const char* otherwise) {
    const char* given = std::getenv(name);
    return given ? given : otherwise;
}

EXPORTED CUresult cuInit(unsigned) {
    ENTER(cuInit);
    state().opened_by = getpid();
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuDriverGetVersion(int* version) {
    ENTER(cuDriverGetVersion);
    *version = 13020;
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuDeviceGetCount(int* count) {
    ENTER(cuDeviceGetCount);
    if (!state().opened_by) return refuse("cuDeviceGetCount", "before cuInit", CUDA_ERROR_NOT_INITIALIZED);
    *count = std::stoi(setting("IMITATED_CUDA_GPUS", "1"));
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    ENTER(cuDeviceGet);
    if (!state().opened_by) return refuse("cuDeviceGet", "before cuInit", CUDA_ERROR_NOT_INITIALIZED);
    *device = ordinal;
    return ordinal ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

EXPORTED CUresult cuDeviceGetName(char* name, int length, CUdevice) {
    ENTER(cuDeviceGetName);
    std::snprintf(name, length, "%s", setting("IMITATED_CUDA_NAME", "Imitated GPU").c_str());
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice) {
    ENTER(cuDeviceGetAttribute);
    const std::string capability = setting("IMITATED_CUDA_CAPABILITY", "8.9");
    const size_t dot = capability.find('.');
    *value = 1;
    if (which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) *value = std::stoi(capability);
    if (which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) *value = std::stoi(capability.substr(dot + 1));
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
    ENTER(cuDeviceTotalMem_v2);
    *bytes = state().limit;
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuGetErrorString(CUresult code, const char** text) {
    static thread_local char made[64];
    std::snprintf(made, sizeof made, "imitated CUDA error %d", code);
    *text = made;
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
    ENTER(cuDevicePrimaryCtxRetain);
    ++state().retained;
    *context = handle();
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
    ENTER(cuDevicePrimaryCtxRelease_v2);
    if (!state().retained) {
        violate("cuDevicePrimaryCtxRelease_v2", "released more often than retained");
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    --state().retained;
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuCtxPushCurrent_v2(CUcontext context) {
    ENTER(cuCtxPushCurrent_v2);
    if (context != handle()) return refuse("cuCtxPushCurrent_v2", "no context", CUDA_ERROR_INVALID_CONTEXT);
    pushed.push_back(context);
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuCtxPopCurrent_v2(CUcontext* context) {
    ENTER(cuCtxPopCurrent_v2);
    if (pushed.empty()) return refuse("cuCtxPopCurrent_v2", "none is pushed", CUDA_ERROR_INVALID_CONTEXT);
    if (context) *context = pushed.back();
    pushed.pop_back();
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuCtxGetCurrent(CUcontext* context) {
    ENTER(cuCtxGetCurrent);
    *context = pushed.empty() ? nullptr : pushed.back();
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuCtxGetDevice(CUdevice* device) {
    ENTER_WITH_CONTEXT(cuCtxGetDevice);
    *device = 0;
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuCtxSynchronize() {
    ENTER_SAFELY(cuCtxSynchronize);
    finish_for_legacy(lock);
    const auto streams = state().streams;
    for (Stream* stream : streams) {
        if (state().streams.count(stream) && !stream->capture.active) finish(*stream, lock);
    }
    return CUDA_SUCCESS;
}
