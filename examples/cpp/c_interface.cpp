// The kernels for programs in other languages, as a shared library: a handle for one network, to be used by one thread
// at a time. Who opens it closes it.

#include <new>

#include "segment.hpp"

namespace {

struct Kernels {
    segment::Preprocess preprocess;
    segment::Resizer resizer;
    segment::Segmenter segmenter;
};

}  // namespace

extern "C" {

// height, width, scale, mean[3] in the network's order of channels, bgr, fit (0 stretch, 1 pad, 2 auto), classes, block
// and upsample (0 half_pixel, 1 align_corners, 2 nearest) as the manifest has them. Null: there is no memory.
void* segment_open(int height, int width, double scale, const double* mean, int bgr, int fit, int classes, int block,
                   int upsample, int threads) {
    const segment::Preprocess preprocess{height,           width, scale, {mean[0], mean[1], mean[2]}, bgr != 0,
                                         segment::Fit(fit)};
    const auto how = segment::Upsample(upsample);
    return new (std::nothrow) Kernels{preprocess, {preprocess, threads}, {preprocess, classes, block, how, threads}};
}

void segment_close(void* kernels) { delete static_cast<Kernels*>(kernels); }

// frame uint8 (height, width, 3) RGB -> uint8 (network's height, network's width, 3): the frame itself where it has
// that size, else memory of the handle that the next call overwrites.
const uint8_t* segment_resize(void* kernels, const uint8_t* frame, int height, int width) {
    return static_cast<Kernels*>(kernels)->resizer.resize(frame, height, width);
}

// logits (rows, columns, classes * block * block), float32 or the bits of bfloat16 -> mask uint8 (height, width).
void segment_mask_fp32(void* kernels, const float* logits, int rows, int columns, int height, int width,
                       uint8_t* mask) {
    static_cast<Kernels*>(kernels)->segmenter.segment(logits, rows, columns, height, width, mask);
}

void segment_mask_bf16(void* kernels, const uint16_t* bits, int rows, int columns, int height, int width,
                       uint8_t* mask) {
    const auto* logits = reinterpret_cast<const segment::BFloat16*>(bits);
    static_cast<Kernels*>(kernels)->segmenter.segment(logits, rows, columns, height, width, mask);
}

}  // extern "C"
