// How frames, logits and masks lie in memory, and who of a block's threads makes what: for segment.cu, which includes it.
#pragma once

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

constexpr int PIXELS = 4;                // of one row, for each thread: one vector store of masks or of input values
constexpr int ACROSS = 32, DOWN = 8;     // threads of a block; a warp lies along a row
constexpr int THREADS = ACROSS * DOWN;
constexpr int BLOCKS = 4;               // at once, at least: 64 registers a thread, where the compiler would take more
constexpr int TILE_WIDTH = PIXELS * ACROSS;
constexpr int POSITIONS = 2;             // of one row of logits, for each thread of coarse_winner
constexpr int STAGED_BYTES = 20 << 10;   // of logits, in shared memory
constexpr int UNDECIDED = 255;           // no class id, see coarse_winner
constexpr float MARGIN = 1.0f / (1 << 18);
constexpr float SMALLEST_GAP = 1e-30f;   // below it products underflow, and relative errors say nothing

// One row of reference.axis_table. The host repeats `first` as `second` where the second weight is zero, so that
// a sample that falls on one value reads nothing else.
struct alignas(16) AxisSample {
    int first, second;
    float weight_first, weight_second;
};

// Neighbours in memory that are read or written at once: pixels of a row, or the channels of a pixel.
template <typename T, int N = PIXELS>
struct alignas(N * sizeof(T)) Strip {
    T value[N];
};

// A frame, and from where in it each pixel of another size is taken.
struct Frame {
    const unsigned char* pixels;  // (height, width, 3)
    int height, width;
    const AxisSample *across, *down;
};

// Logits (classes * block * block, height, width) or, where LAST, (height, width, classes * block * block), unblocked
// as reference.unblock does: class 0 of the unblocked pixel (y, x) lies at row(y) + column(x), each class a step on.
template <typename T, bool LAST>
struct Logits {
    const T* values;
    int classes, block, height, width;

    __device__ int channels() const { return classes * block * block; }
    __device__ size_t plane() const { return (size_t)height * width; }
    __device__ size_t step() const { return LAST ? block * block : plane() * block * block; }
    __device__ size_t row(int y) const {
        const size_t position = (size_t)(y / block) * width, part = (y % block) * block;
        return LAST ? position * channels() + part : part * plane() + position;
    }
    __device__ size_t column(int x) const {
        const size_t position = x / block, part = x % block;
        return LAST ? position * channels() + part : part * plane() + position;
    }
};

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline void store(float* place, float value) { *place = value; }
__device__ inline void store(__half* place, float value) { *place = __float2half_rn(value); }

__device__ inline float bilinear(float a, float b, float c, float d, AxisSample u, AxisSample v) {
    return (a * u.weight_first + b * u.weight_second) * v.weight_first +
           (c * u.weight_first + d * u.weight_second) * v.weight_second;
}

// A whole strip where the row is stored in strips, else the part of it that is inside the row.
template <typename T>
__device__ inline void store_strip(T* row, int x, int width, const Strip<T>& strip) {
    if (width % PIXELS == 0) {
        *reinterpret_cast<Strip<T>*>(row + x) = strip;
        return;
    }
#pragma unroll
    for (int i = 0; i < PIXELS; ++i)
        if (x + i < width) row[x + i] = strip.value[i];
}
