// A convolution, plainly: what stands in for a network on a GPU whose TensorRT is missing or refused.
#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline void store(float* place, float value) { *place = value; }
__device__ inline void store(__half* place, float value) { *place = __float2half_rn(value); }

// Where a value of a tensor lies.
__device__ inline size_t place(int channel, int row, int column, int channels, int height, int width, int last) {
    if (last) return ((size_t)row * width + column) * channels + channel;
    return ((size_t)channel * height + row) * width + column;
}

// input T (channels, height, width), weights float (outputs, channels, 3, 3), a border of zeros ->
// output T (outputs, ceil(height / stride), ceil(width / stride)), none below zero where `relu` says so. Either may
// have its channels last in memory.
//
// Thread (x, y) makes column x of row y, where the rows of all outputs follow one another.
template <typename T>
__device__ void convolve(const T* input, const float* weights, int channels, int height, int width, int stride,
                         int outputs, int relu, int last_in, int last_out, T* output) {
    const int out_height = (height + stride - 1) / stride, out_width = (width + stride - 1) / stride;
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_width || y >= out_height * outputs) return;
    const int top = y % out_height * stride - 1, left = x * stride - 1;
    const float* weight = weights + (size_t)(y / out_height) * channels * 9;
    float sum = 0;
    for (int i = 0; i < channels * 9; ++i) {
        const int row = top + i % 9 / 3, column = left + i % 3;
        if (row < 0 || row >= height || column < 0 || column >= width) continue;
        sum += weight[i] * to_float(input[place(i / 9, row, column, channels, height, width, last_in)]);
    }
    T* const there = output + place(y / out_height, y % out_height, x, outputs, out_height, out_width, last_out);
    store(there, relu && sum < 0 ? 0.0f : sum);
}

#define CONVOLUTION_FOR(T, SUFFIX)                                                                                    \
    extern "C" __global__ void convolution_##SUFFIX(const T* input, const float* weights, int channels, int height,   \
                                                    int width, int stride, int outputs, int relu, int last_in,        \
                                                    int last_out, T* output) {                                        \
        convolve(input, weights, channels, height, width, stride, outputs, relu, last_in, last_out, output);          \
    }

CONVOLUTION_FOR(__half, fp16)
CONVOLUTION_FOR(float, fp32)
