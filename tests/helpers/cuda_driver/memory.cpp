// Memory on the device and page-locked on the host, with a band around each that nothing may write, and copies.
#include <cstdlib>
#include <cstring>

#include "state.h"

constexpr size_t BAND = 4096;  // a page, so that page-locked memory begins at one
constexpr char UNTOUCHED = char(0xFB), GARBAGE = char(0xCD), FREED = char(0xDD);

static CUresult allocate(const char* call, size_t size, bool pinned, char** made) {
    if (!size) return refuse(call, "of no bytes", CUDA_ERROR_INVALID_VALUE);
    if (!pinned && state().used + size > state().limit) return refuse(call, "too large", CUDA_ERROR_OUT_OF_MEMORY);
    const size_t whole = 2 * BAND + (size + BAND - 1) / BAND * BAND;
    char* block = static_cast<char*>(std::aligned_alloc(BAND, whole));
    if (!block) return refuse(call, "too large for the host", CUDA_ERROR_OUT_OF_MEMORY);
    *made = block + BAND;
    std::memset(block, UNTOUCHED, whole);
    std::memset(*made, GARBAGE, size);
    state().memory[*made] = {block, whole, size, pinned};
    ++state().made;
    if (!pinned) state().used += size;
    return CUDA_SUCCESS;
}

static bool untouched(const char* start, const Allocation& allocation) {
    for (const char* at = allocation.block; at < allocation.block + allocation.block_size; ++at) {
        if ((at < start || at >= start + allocation.size) && *at != UNTOUCHED) return false;
    }
    return true;
}

static CUresult give_back(const char* call, const void* start, bool pinned) {
    const auto found = state().memory.find(static_cast<const char*>(start));
    if (found == state().memory.end() || found->second.pinned != pinned) {
        violate(call, "of what is not allocated");
        return CUDA_ERROR_INVALID_VALUE;
    }
    const auto [address, allocation] = *found;
    if (!untouched(address, allocation)) violate(call, "something wrote before or after the allocation");
    state().memory.erase(found);
    if (!pinned) state().used -= allocation.size;
    if (used_by_work(address, allocation.size)) {
        violate(call, "of what a stream still uses");
        return CUDA_SUCCESS;  // and the block is kept, for that work to write into
    }
    std::memset(allocation.block + BAND, FREED, allocation.size);
    std::free(allocation.block);
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t size) {
    ENTER_SAFELY(cuMemAlloc_v2);
    char* made = nullptr;
    const CUresult code = allocate("cuMemAlloc_v2", size, false, &made);
    *address = reinterpret_cast<CUdeviceptr>(made);
    return code;
}

EXPORTED CUresult cuMemFree_v2(CUdeviceptr address) {
    ENTER_SAFELY(cuMemFree_v2);
    return give_back("cuMemFree_v2", reinterpret_cast<void*>(address), false);
}

EXPORTED CUresult cuMemHostAlloc(void** address, size_t size, unsigned) {
    ENTER_SAFELY(cuMemHostAlloc);
    char* made = nullptr;
    const CUresult code = allocate("cuMemHostAlloc", size, true, &made);
    *address = made;
    return code;
}

EXPORTED CUresult cuMemFreeHost(void* address) {
    ENTER_SAFELY(cuMemFreeHost);
    return give_back("cuMemFreeHost", address, true);
}

EXPORTED CUresult cuMemGetInfo_v2(size_t* left, size_t* total) {
    ENTER_WITH_CONTEXT(cuMemGetInfo_v2);
    *total = state().limit;
    *left = state().limit - state().used;
    return CUDA_SUCCESS;
}

static CUresult outside(const char* call) {
    violate(call, "beyond an allocation on the device");
    return CUDA_ERROR_INVALID_VALUE;
}

EXPORTED CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t size, CUstream handle) {
    ENTER_WITH_CONTEXT(cuMemcpyHtoDAsync_v2);
    char* there = reinterpret_cast<char*>(to);
    const char* here = static_cast<const char*>(from);
    if (!inside(there, size, false)) return outside("cuMemcpyHtoDAsync_v2");
    if (inside(here, size, true)) {
        const auto run = [=] { std::memcpy(there, here, size); };
        return enqueue("cuMemcpyHtoDAsync_v2", handle, {"htod", run, {{there, size}, {here, size}}});
    }
    Stream* stream = stream_of(handle);
    if (stream && stream->capture.active) {
        stream->capture.invalid = true;
        return refuse("cuMemcpyHtoDAsync_v2", "pageable memory", CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    // The driver stages pageable memory before it returns, or later: programs may rely on neither. Here it is later.
    const auto run = [=] { std::memcpy(there, here, size); };
    return enqueue("cuMemcpyHtoDAsync_v2", handle, {"upload", run, {{there, size}}});
}

EXPORTED CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t size, CUstream handle) {
    ENTER_WITH_CONTEXT(cuMemcpyDtoHAsync_v2);
    char* there = static_cast<char*>(to);
    const char* here = reinterpret_cast<const char*>(from);
    if (!inside(here, size, false)) return outside("cuMemcpyDtoHAsync_v2");
    if (!inside(there, size, true)) violate("cuMemcpyDtoHAsync_v2", "to pageable memory: it would not be asynchronous");
    const auto run = [=] { std::memcpy(there, here, size); };
    return enqueue("cuMemcpyDtoHAsync_v2", handle, {"dtoh", run, {{there, size}, {here, size}}});
}

EXPORTED CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream handle) {
    ENTER_WITH_CONTEXT(cuMemcpyDtoDAsync_v2);
    char* there = reinterpret_cast<char*>(to);
    const char* here = reinterpret_cast<const char*>(from);
    if (!inside(there, size, false) || !inside(here, size, false)) return outside("cuMemcpyDtoDAsync_v2");
    const auto run = [=] { std::memcpy(there, here, size); };
    const std::string name = "dtod " + std::to_string(size);
    return enqueue("cuMemcpyDtoDAsync_v2", handle, {name, run, {{there, size}, {here, size}}});
}

// The copies that return when they are done run on the legacy stream, which waits for none made NON_BLOCKING.
EXPORTED CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t size) {
    ENTER_SAFELY(cuMemcpyDtoH_v2);
    const char* here = reinterpret_cast<const char*>(from);
    if (!inside(here, size, false)) return outside("cuMemcpyDtoH_v2");
    if (const CUresult code = legacy_refused("cuMemcpyDtoH_v2")) return code;
    finish_for_legacy(lock);
    if (used_by_work(here, size)) violate("cuMemcpyDtoH_v2", "of what a stream has not finished");
    std::memcpy(to, here, size);
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t size) {
    ENTER_SAFELY(cuMemcpyHtoD_v2);
    char* there = reinterpret_cast<char*>(to);
    if (!inside(there, size, false)) return outside("cuMemcpyHtoD_v2");
    if (const CUresult code = legacy_refused("cuMemcpyHtoD_v2")) return code;
    finish_for_legacy(lock);
    if (used_by_work(there, size)) violate("cuMemcpyHtoD_v2", "to what a stream still uses");
    std::memcpy(there, from, size);
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuPointerGetAttribute(void* value, CUpointer_attribute which, CUdeviceptr address) {
    ENTER_WITH_CONTEXT(cuPointerGetAttribute);
    const void* at = reinterpret_cast<const void*>(address);
    const bool pinned = inside(at, 1, true);
    if (!pinned && !inside(at, 1, false)) return refuse("cuPointerGetAttribute", "unknown", CUDA_ERROR_INVALID_VALUE);
    switch (which) {
        case CU_POINTER_ATTRIBUTE_CONTEXT: *static_cast<CUcontext*>(value) = primary_context(); break;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            *static_cast<unsigned*>(value) = pinned ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
            break;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: *static_cast<int*>(value) = 0; break;
        default: return refuse("cuPointerGetAttribute", "not imitated", CUDA_ERROR_INVALID_VALUE);
    }
    return CUDA_SUCCESS;
}
