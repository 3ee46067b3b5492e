// Lets a C++ compiler build a .cu file without CUDA: kernels without shared memory run one thread after another.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#define __global__
#define __device__

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

using std::fabs;
inline float fmaxf(float a, float b) { return a > b ? a : b; }

struct __half {
    _Float16 value;
};
inline float __half2float(__half half) { return (float)half.value; }
inline __half __float2half_rn(float value) { return {(_Float16)value}; }

// As cuLaunchKernel: `arguments` points at the value of each argument, in order.
template <typename... Types, std::size_t... Index>
void call(void (*kernel)(Types...), void** arguments, std::index_sequence<Index...>) {
    kernel(*static_cast<Types*>(arguments[Index])...);
}

template <typename... Types>
void launch(void (*kernel)(Types...), dim3 grid, dim3 block, void** arguments) {
    gridDim = grid, blockDim = block;
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
            for (threadIdx.y = 0; threadIdx.y < block.y; ++threadIdx.y)
                for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x)
                    call(kernel, arguments, std::index_sequence_for<Types...>());
}
