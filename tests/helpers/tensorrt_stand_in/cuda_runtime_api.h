// The part of CUDA's runtime that examples/cpp calls, on a machine without it: the device's memory is the host's.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

enum cudaError_t { cudaSuccess = 0, cudaErrorLaunchFailure = 719 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
struct CUstream_st {};
using cudaStream_t = CUstream_st*;
constexpr unsigned cudaStreamNonBlocking = 1;

struct cudaDeviceProp {
    char name[256];
    int major, minor;
};

inline const char* cudaGetErrorString(cudaError_t) { return "it failed"; }

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* gpu, int) {
    std::strcpy(gpu->name, "NVIDIA Abacus");
    gpu->major = 9, gpu->minor = 0;
    return cudaSuccess;
}

// Aligned as CUDA's own, and full of what nobody wrote.
inline cudaError_t cudaMalloc(void** made, size_t bytes) {
    const size_t whole = (bytes + 255) / 256 * 256;
    *made = std::memset(std::aligned_alloc(256, whole), 0xA5, whole);
    return cudaSuccess;
}

inline cudaError_t cudaFree(void* made) { return std::free(made), cudaSuccess; }
inline cudaError_t cudaMallocHost(void** made, size_t bytes) { return cudaMalloc(made, bytes); }
inline cudaError_t cudaFreeHost(void* made) { return cudaFree(made); }
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* made, unsigned) { return *made = new CUstream_st, cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t made) { return delete made, cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
    return std::memcpy(to, from, bytes), cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
    return cudaMemcpy(to, from, bytes, kind);
}
