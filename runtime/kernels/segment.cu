// What happens to a frame on the GPU before and after the network. The definition of correct is runtime/reference.py:
// these kernels give the same bytes. Compile with -fmad=false: one contracted multiply-add changes the last bit of a
// value, and with it the winner of a tie. The same source runs on a CPU under tests/helpers/cuda_shim.h.

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

constexpr int PIXELS = 4;                // of one row, for each thread: one vector store of masks or of input values
constexpr int UNDECIDED = 255;           // no class id, see coarse_winner
constexpr float MARGIN = 1.0f / (1 << 18);
constexpr float SMALLEST_GAP = 1e-30f;   // below it products underflow, and relative errors say nothing

// One row of reference.axis_table. The host repeats `first` as `second` where the second weight is zero, so that
// a sample that falls on one value reads nothing else.
struct alignas(16) AxisSample {
    int first, second;
    float weight_first, weight_second;
};

template <typename T>
struct alignas(PIXELS * sizeof(T)) Strip {
    T value[PIXELS];
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
    for (int i = 0; i < PIXELS && x + i < width; ++i) row[x + i] = strip.value[i];
}

// reference.resize_frame for the pixels x .. x + 3 of row y; the caller keeps y inside, x may pass the end.
__device__ inline void resized_pixels(const unsigned char* frame, int frame_height, int frame_width,
                                      const AxisSample* across, const AxisSample* down, int height, int width, int x,
                                      int y, unsigned char rgb[PIXELS][3]) {
    if (frame_height == height && frame_width == width && width % PIXELS == 0) {
        // The usual case, a frame of the network's size: 12 bytes in three aligned words, nothing to compute.
        const auto* words = reinterpret_cast<const unsigned int*>(frame + ((size_t)y * width + x) * 3);
        for (int i = 0; i < PIXELS * 3; ++i) rgb[i / 3][i % 3] = (words[i / 4] >> (8 * (i % 4))) & 255;
        return;
    }
    const AxisSample v = down[y];
    const unsigned char* upper = frame + (size_t)v.first * frame_width * 3;
    const unsigned char* lower = frame + (size_t)v.second * frame_width * 3;
    for (int i = 0; i < PIXELS && x + i < width; ++i) {
        const AxisSample u = across[x + i];
        for (int c = 0; c < 3; ++c) {
            const float value = bilinear(upper[3 * u.first + c], upper[3 * u.second + c], lower[3 * u.first + c],
                                         lower[3 * u.second + c], u, v);
            rgb[i][c] = (unsigned char)rintf(value);  // halves to even, as numpy.rint
        }
    }
}

// reference.preprocess: frame uint8 (frame_height, frame_width, 3) -> input T (1, 3, height, width).
//
// Thread (x, y) makes pixels 4x .. 4x + 3 of row y, all three channels. Reads 3 bytes a pixel where the frame has the
// network's size, else up to 12 through the cache; writes 3 values a pixel, in vectors of four. `gain_bias` holds
// three gains and three biases in the network's channel order; `bgr` says that its order is not the frame's.
template <typename T>
__device__ void resize_normalize(const unsigned char* __restrict__ frame, int frame_height, int frame_width,
                                 const AxisSample* __restrict__ across, const AxisSample* __restrict__ down,
                                 const float* __restrict__ gain_bias, int bgr, int height, int width,
                                 T* __restrict__ input) {
    const int x = PIXELS * (blockIdx.x * blockDim.x + threadIdx.x);
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    unsigned char rgb[PIXELS][3] = {};
    resized_pixels(frame, frame_height, frame_width, across, down, height, width, x, y, rgb);
    for (int channel = 0; channel < 3; ++channel) {
        Strip<T> strip;
        for (int i = 0; i < PIXELS; ++i) {
            const float value = rgb[i][bgr ? 2 - channel : channel];
            store(&strip.value[i], value * gain_bias[channel] + gain_bias[3 + channel]);
        }
        store_strip(input + ((size_t)channel * height + y) * width, x, width, strip);
    }
}

// The class of every coarse logit: logits T (classes * block * block, height, width), unblocked as reference.unblock
// does, -> winners uint8 (height * block, width * block); the largest, the lower id on ties.
//
// UNDECIDED where a class of lower id comes so near below the winner that rounding could make them equal between four
// such pixels, and the lower id would then win. The error of a bilinear value is under 4 ulp, 2^-21 of the logits'
// size, on either side; MARGIN is eight times that. Logits from FP16 are 2^-11 apart and never that near.
//
// Thread (x, y) reads the classes of one position, coalesced along x, and writes its block * block winners.
template <typename T>
__device__ void coarse_winner(const T* __restrict__ logits, int classes, int block, int height, int width,
                              unsigned char* __restrict__ winners) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const size_t plane = (size_t)height * width, step = plane * block * block;
    for (int part = 0; part < block * block; ++part) {
        const T* logit = logits + part * plane + (size_t)y * width + x;
        float best = to_float(logit[0]), before = -INFINITY;  // `before`: the largest among lower ids
        int winner = 0;
        for (int id = 1; id < classes; ++id) {
            const float value = to_float(logit[id * step]);
            if (value > best) {
                before = best;
                best = value;
                winner = id;
            }
        }
        const float gap = best - before, size = fmaxf(fabsf(best), fabsf(before));
        const bool near = winner > 0 && gap <= size * MARGIN + SMALLEST_GAP;
        const size_t row = (size_t)y * block + part / block;
        winners[row * width * block + (size_t)x * block + part % block] = near ? UNDECIDED : winner;
    }
}

// Where the logits of class 0 at an unblocked coarse pixel lie.
__device__ inline size_t logit_offset(int y, int x, int block, int height, int width) {
    const int part = (y % block) * block + x % block;
    return ((size_t)part * height + y / block) * width + x / block;
}

// Pixels of a frame, one row's, four: three aligned words where the row is stored in strips.
struct alignas(4) Colors {
    unsigned char value[PIXELS * 3];
};

// reference.overlay for the pixels x .. x + 3 of a row, whose classes are in `strip`: frame_row and overlay_row uint8
// (width, 3), shades uint16 (256, 3) and keep as reference.overlay_shades gives them.
__device__ inline void blend(const unsigned char* frame_row, const unsigned short* shades, int keep, int x, int width,
                             const Strip<unsigned char>& strip, unsigned char* overlay_row) {
    const bool whole = width % PIXELS == 0;
    const int count = whole || x + PIXELS <= width ? PIXELS * 3 : (width - x) * 3;
    Colors colors;
    if (whole) colors = *reinterpret_cast<const Colors*>(frame_row + x * 3);
    for (int i = 0; i < PIXELS * 3; ++i) {
        if (i >= count) break;
        const int value = whole ? colors.value[i] : frame_row[x * 3 + i];
        colors.value[i] = (unsigned char)((value * keep + shades[strip.value[i / 3] * 3 + i % 3]) >> 8);
        if (!whole) overlay_row[x * 3 + i] = colors.value[i];
    }
    if (whole) *reinterpret_cast<Colors*>(overlay_row + x * 3) = colors;
}

// reference.postprocess: logits and their winners -> mask uint8 (mask_height, mask_width); where `overlay` is given,
// reference.overlay of a frame of that size too.
//
// Where the four neighbours have one winner it is the class between them, because a bilinear value never leaves the
// order of its corners; only the boundaries between classes read logits. Thread (x, y) makes pixels 4x .. 4x + 3 of
// row y: 16 winners from the cache, 4 * classes logits for each boundary pixel, one store of four bytes. An overlay adds
// 12 bytes read of the frame, 12 written, and 4 shades from the cache.
template <typename T>
__device__ void upsample_argmax(const T* __restrict__ logits, const unsigned char* __restrict__ winners, int classes,
                                int block, int height, int width, const AxisSample* __restrict__ across,
                                const AxisSample* __restrict__ down, int mask_height, int mask_width,
                                unsigned char* __restrict__ mask, const unsigned char* __restrict__ frame,
                                const unsigned short* __restrict__ shades, int keep,
                                unsigned char* __restrict__ overlay) {
    const int x = PIXELS * (blockIdx.x * blockDim.x + threadIdx.x);
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= mask_width || y >= mask_height) return;
    const size_t step = (size_t)height * width * block * block;
    const AxisSample v = down[y];
    const unsigned char* upper = winners + (size_t)v.first * width * block;
    const unsigned char* lower = winners + (size_t)v.second * width * block;
    Strip<unsigned char> strip = {};
    for (int i = 0; i < PIXELS && x + i < mask_width; ++i) {
        const AxisSample u = across[x + i];
        int winner = upper[u.first];
        if (winner == UNDECIDED || upper[u.second] != winner || lower[u.first] != winner ||
            lower[u.second] != winner) {
            const T* a = logits + logit_offset(v.first, u.first, block, height, width);
            const T* b = logits + logit_offset(v.first, u.second, block, height, width);
            const T* c = logits + logit_offset(v.second, u.first, block, height, width);
            const T* d = logits + logit_offset(v.second, u.second, block, height, width);
            float best = -INFINITY;
            winner = 0;
            for (int id = 0; id < classes; ++id, a += step, b += step, c += step, d += step) {
                const float value = bilinear(to_float(*a), to_float(*b), to_float(*c), to_float(*d), u, v);
                if (value > best) {
                    best = value;
                    winner = id;
                }
            }
        }
        strip.value[i] = (unsigned char)winner;
    }
    const size_t row = (size_t)y * mask_width;
    store_strip(mask + row, x, mask_width, strip);
    if (overlay) blend(frame + 3 * row, shades, keep, x, mask_width, strip, overlay + 3 * row);
}

#define KERNELS_FOR(T, SUFFIX)                                                                                        \
    extern "C" __global__ void resize_normalize_##SUFFIX(                                                             \
        const unsigned char* frame, int frame_height, int frame_width, const AxisSample* across,                      \
        const AxisSample* down, const float* gain_bias, int bgr, int height, int width, T* input) {                   \
        resize_normalize(frame, frame_height, frame_width, across, down, gain_bias, bgr, height, width, input);       \
    }                                                                                                                 \
    extern "C" __global__ void coarse_winner_##SUFFIX(const T* logits, int classes, int block, int height, int width, \
                                                      unsigned char* winners) {                                       \
        coarse_winner(logits, classes, block, height, width, winners);                                                \
    }                                                                                                                 \
    extern "C" __global__ void upsample_argmax_##SUFFIX(                                                              \
        const T* logits, const unsigned char* winners, int classes, int block, int height, int width,                 \
        const AxisSample* across, const AxisSample* down, int mask_height, int mask_width, unsigned char* mask,       \
        const unsigned char* frame, const unsigned short* shades, int keep, unsigned char* overlay) {                 \
        upsample_argmax(logits, winners, classes, block, height, width, across, down, mask_height, mask_width, mask,  \
                        frame, shades, keep, overlay);                                                                \
    }

KERNELS_FOR(__half, fp16)
KERNELS_FOR(float, fp32)
