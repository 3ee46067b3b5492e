// The kernels of runtime/kernels/segment.cu for a C++ program, launched as runtime/kernels/cuda.py does.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "places.hpp"

namespace segment {

// A tensor on the device: (channels, height, width), or (height, width, channels) with `channels_last`.
struct Tensor {
    void* values;
    int channels, height, width;
    bool half, channels_last;  // FP16, else FP32
    size_t bytes() const { return size_t(channels) * height * width * (half ? 2 : 4); }
};

// A frame or a mask on the device.
struct Pixels {
    uint8_t* values;
    int height, width;
};

// Where `axis_samples` lie on the device.
struct Axes {
    const void *across, *down;
};

// Throws std::runtime_error with CUDA's own words.
void checked(cudaError_t answer);

// A table as the kernels read it.
std::vector<unsigned char> axis_samples(const AxisTable& table);

// The normalisation as the kernels read it: three gains and biases in the network's order of channels, the border RGB.
std::array<float, 9> gain_bias(const Preprocess& preprocess);

// reference.preprocess; `gain_bias` on the device. A fourth channel, where there is one, is 0.
void resize_normalize(Pixels frame, Axes axes, const void* gain_bias, bool bgr, Tensor input, cudaStream_t stream);

// The class of every coarse logit -> `winners`, uint8 (height * block, width * block). Not `undecided`: they are the
// mask of that size; else `upsample_argmax` comes next.
void coarse_winner(Tensor logits, int block, bool undecided, void* winners, cudaStream_t stream);

// reference.postprocess.
void upsample_argmax(Tensor logits, int block, const void* winners, Axes axes, Pixels mask, cudaStream_t stream);

}  // namespace segment
