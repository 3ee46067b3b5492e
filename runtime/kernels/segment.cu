// What happens to a frame on the GPU before and after the network. The definition of correct is runtime/reference.py:
// these kernels give the same bytes. Compile with -fmad=false: one contracted multiply-add changes the last bit of a
// value, and with it the winner of a tie. The same source runs on a CPU under tests/helpers/cuda_shim.h.

#include "layout.cuh"

// reference.fit_frame for the pixel (x, y) of the other size: outside of the frame's box the samples have no weight.
__device__ inline void resized_pixel(Frame frame, int x, AxisSample v, const float* border, unsigned char rgb[3]) {
    const AxisSample u = frame.across[x];
    const bool inside = u.weight_first + u.weight_second > 0 && v.weight_first + v.weight_second > 0;
    const unsigned char* upper = frame.pixels + (size_t)v.first * frame.width * 3;
    const unsigned char* lower = frame.pixels + (size_t)v.second * frame.width * 3;
    for (int c = 0; c < 3; ++c) {
        const float bytes = bilinear(upper[3 * u.first + c], upper[3 * u.second + c], lower[3 * u.first + c],
                                     lower[3 * u.second + c], u, v);
        const float value = inside ? bytes : border[c];
        rgb[c] = (unsigned char)rintf(value);  // halves to even, as numpy.rint
    }
}

// One value of the network's input: `channel` in its own order, which is not the frame's where `bgr`.
__device__ inline float normalized(const unsigned char rgb[3], int channel, int bgr, const float* gain_bias) {
    const float value = bgr ? rgb[2 - channel] : rgb[channel];
    return value * gain_bias[channel] + gain_bias[3 + channel];
}

// reference.preprocess: frame uint8 (frame.height, frame.width, 3) -> input T (1, 3, height, width).
//
// Thread (x, y) makes pixels 4x .. 4x + 3 of row y, all three channels. Reads 3 bytes a pixel where the frame has the
// network's size, else up to 12 through the cache; writes 3 values a pixel, in vectors of four. `gain_bias` holds three
// gains and biases in the network's order of channels, then reference.border in the frame's; where `bgr` they differ.
template <typename T>
__device__ void resize_normalize(Frame frame, const float* gain_bias, int bgr, int height, int width, T* input) {
    const int x = PIXELS * (blockIdx.x * blockDim.x + threadIdx.x);
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    unsigned char rgb[PIXELS][3] = {};
    if (frame.height == height && frame.width == width && width % PIXELS == 0) {
        // The usual case, a frame of the network's size: 12 bytes in three aligned words, nothing to compute.
        const auto* words = reinterpret_cast<const unsigned int*>(frame.pixels + ((size_t)y * width + x) * 3);
        for (int i = 0; i < PIXELS * 3; ++i) rgb[i / 3][i % 3] = (words[i / 4] >> (8 * (i % 4))) & 255;
    } else {
        const AxisSample v = frame.down[y];
        for (int i = 0; i < PIXELS && x + i < width; ++i) resized_pixel(frame, x + i, v, gain_bias + 6, rgb[i]);
    }
    for (int channel = 0; channel < 3; ++channel) {
        Strip<T> strip;
        for (int i = 0; i < PIXELS; ++i) store(&strip.value[i], normalized(rgb[i], channel, bgr, gain_bias));
        store_strip(input + ((size_t)channel * height + y) * width, x, width, strip);
    }
}

// The same with channels last, and a fourth that is 0: input T (1, height, width, 4).
//
// A thread makes four pixels of row y that lie a warp apart, so that a warp's stores are one piece: one vector a pixel.
template <typename T>
__device__ void resize_normalize_last(Frame frame, const float* gain_bias, int bgr, int height, int width, T* input) {
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (y >= height) return;
    const AxisSample v = frame.down[y];
    const bool same = frame.height == height && frame.width == width;
    for (int i = 0; i < PIXELS; ++i) {
        const int x = (blockIdx.x * PIXELS + i) * blockDim.x + threadIdx.x;
        if (x >= width) return;
        unsigned char rgb[3];
        if (same) {
            for (int c = 0; c < 3; ++c) rgb[c] = frame.pixels[((size_t)y * width + x) * 3 + c];
        } else {
            resized_pixel(frame, x, v, gain_bias + 6, rgb);
        }
        Strip<T> pixel;
        for (int c = 0; c < 3; ++c) store(&pixel.value[c], normalized(rgb, c, bgr, gain_bias));
        store(&pixel.value[3], 0.0f);
        reinterpret_cast<Strip<T>*>(input)[(size_t)y * width + x] = pixel;
    }
}

// The class of N pixels whose logits of class 0 lie side by side, aligned for N; the largest, the lower id on ties.
//
// UNDECIDED, where that is asked, if a class of lower id comes so near below the winner that rounding could make them
// equal between four such pixels, and the lower id would then win. The error of a bilinear value is under 4 ulp, 2^-21
// of the logits' size, on either side; MARGIN is eight times that. Logits from FP16 are 2^-11 apart, never that near.
template <int N, typename T>
__device__ inline void winners_of(const T* logit, int classes, size_t step, int undecided, unsigned char winners[N]) {
    float best[N], before[N];  // `before`: the largest among lower ids
    int winner[N];
    const auto first = *reinterpret_cast<const Strip<T, N>*>(logit);
    for (int i = 0; i < N; ++i) best[i] = to_float(first.value[i]), before[i] = -INFINITY, winner[i] = 0;
#pragma unroll 4
    for (int id = 1; id < classes; ++id) {
        const auto values = *reinterpret_cast<const Strip<T, N>*>(logit + id * step);
        for (int i = 0; i < N; ++i) {
            const float value = to_float(values.value[i]);
            if (value > best[i]) {
                before[i] = best[i];
                best[i] = value;
                winner[i] = id;
            }
        }
    }
    for (int i = 0; i < N; ++i) {
        const float gap = best[i] - before[i], size = fmaxf(fabsf(best[i]), fabsf(before[i]));
        const bool near = winner[i] > 0 && gap <= size * MARGIN + SMALLEST_GAP;
        winners[i] = (unsigned char)(undecided && near ? UNDECIDED : winner[i]);
    }
}

// The class of every coarse logit -> winners uint8 (height * block, width * block); where the mask has that size they
// are the mask, and none of them is left `undecided`.
//
// Thread (x, y) reads the classes of positions 2x and 2x + 1 for row y of the winners, coalesced along x in pairs, and
// writes 2 * block winners at once.
template <typename T>
__device__ void coarse_winner(Logits<T, false> logits, int undecided, unsigned char* winners) {
    const int x = POSITIONS * (blockIdx.x * blockDim.x + threadIdx.x);
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    const int block = logits.block, width = logits.width;
    if (x >= width || y >= logits.height * block) return;
    unsigned char* row = winners + ((size_t)y * width + x) * block;
    const bool pairs = width % POSITIONS == 0;
    unsigned int packed = 0;
    for (int part = 0; part < block; ++part) {
        const T* logit = logits.values + logits.row(y) + logits.column(x * block + part);
        unsigned char winner[POSITIONS] = {};
        if (pairs) {
            winners_of<POSITIONS>(logit, logits.classes, logits.step(), undecided, winner);
        } else {
            winners_of<1>(logit, logits.classes, logits.step(), undecided, winner);
            if (x + 1 < width) winners_of<1>(logit + 1, logits.classes, logits.step(), undecided, winner + 1);
        }
        packed |= (unsigned int)winner[0] << (8 * part % 32) | (unsigned int)winner[1] << (8 * (block + part) % 32);
        if (pairs && block <= 2) continue;
        row[part] = winner[0];
        if (x + 1 < width) row[block + part] = winner[1];
    }
    if (!pairs || block > 2) return;
    if (block == 2) *reinterpret_cast<unsigned int*>(row) = packed;
    else *reinterpret_cast<unsigned short*>(row) = (unsigned short)packed;
}

// The same from logits with their channels last, of which a thread by itself would read one in a row of them.
//
// A block takes `tile` positions through shared memory, in vectors where they are aligned; a thread has one winner.
template <typename T>
__device__ void coarse_winner(Logits<T, true> logits, int undecided, int tile, unsigned char* winners) {
    using Vector = Strip<unsigned int>;
    __shared__ Vector staged[STAGED_BYTES / sizeof(Vector)];
    const int thread = threadIdx.y * blockDim.x + threadIdx.x, block = logits.block, width = logits.width;
    const size_t first = (size_t)blockIdx.x * tile, left = logits.plane() - first;
    const int count = left < (size_t)tile ? (int)left : tile, values = count * logits.channels();
    const T* logit = logits.values + first * logits.channels();
    if (values * sizeof(T) <= STAGED_BYTES) {  // a single position may be larger
        constexpr int LENGTH = sizeof(Vector) / sizeof(T);
        const int vectors = first * logits.channels() % LENGTH ? 0 : values / LENGTH;
        T* copy = reinterpret_cast<T*>(staged);
        for (int i = thread; i < vectors; i += THREADS) staged[i] = reinterpret_cast<const Vector*>(logit)[i];
        for (int i = vectors * LENGTH + thread; i < values; i += THREADS) copy[i] = logit[i];
        logit = copy;
    }
    __syncthreads();
    const int parts = block * block;
    for (int i = thread; i < count * parts; i += THREADS) {
        const int part = i % parts, position = (int)first + i / parts;
        const T* own = logit + (size_t)(i / parts) * logits.channels() + part;
        unsigned char winner;
        winners_of<1>(own, logits.classes, parts, undecided, &winner);
        const size_t y = (size_t)(position / width) * block + part / block;
        winners[(y * width + position % width) * block + part % block] = winner;
    }
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
#pragma unroll
    for (int i = 0; i < PIXELS * 3; ++i) {
        if (i >= count) break;
        const int value = whole ? colors.value[i] : frame_row[x * 3 + i];
        colors.value[i] = (unsigned char)((value * keep + shades[strip.value[i / 3] * 3 + i % 3]) >> 8);
        if (!whole) overlay_row[x * 3 + i] = colors.value[i];
    }
    if (whole) *reinterpret_cast<Colors*>(overlay_row + x * 3) = colors;
}

// Neighbours along an axis that lie between the same samples.
__device__ inline bool same_cell(AxisSample a, AxisSample b) { return a.first == b.first && a.second == b.second; }

// reference.postprocess for one pixel, at its place between four logits.
template <typename T, bool LAST>
__device__ inline int upsampled_winner(Logits<T, LAST> logits, AxisSample u, AxisSample v) {
    const size_t step = logits.step(), left = logits.column(u.first), right = logits.column(u.second);
    const T *upper = logits.values + logits.row(v.first), *lower = logits.values + logits.row(v.second);
    const T *a = upper + left, *b = upper + right, *c = lower + left, *d = lower + right;
    float best = -INFINITY;
    int winner = 0;
#pragma unroll 2
    for (int id = 0; id < logits.classes; ++id, a += step, b += step, c += step, d += step) {
        const float value = bilinear(to_float(*a), to_float(*b), to_float(*c), to_float(*d), u, v);
        if (value > best) {
            best = value;
            winner = id;
        }
    }
    return winner;
}

// A mask that is made, and from where among the winners each of its pixels is taken.
struct Mask {
    unsigned char* pixels;  // (height, width)
    int height, width;
    const AxisSample *across, *down;
};

// Puts the pixels of a cell into the queue, one after another, if (x, y) is the first of them in its tile.
__device__ inline void queue_cell(Mask mask, int x, int y, int tile_x, int tile_y, int* queued, unsigned short* queue) {
    const AxisSample u = mask.across[x], v = mask.down[y];
    if ((x > tile_x && same_cell(u, mask.across[x - 1])) || (y > tile_y && same_cell(v, mask.down[y - 1]))) return;
    const int end_x = min(tile_x + TILE_WIDTH, mask.width), end_y = min(tile_y + DOWN, mask.height);
    int right = x + 1, bottom = y + 1;
    while (right < end_x && same_cell(u, mask.across[right])) ++right;
    while (bottom < end_y && same_cell(v, mask.down[bottom])) ++bottom;
    int place = atomicAdd(queued, (right - x) * (bottom - y));
    for (int row = y; row < bottom; ++row)
        for (int column = x; column < right; ++column)
            queue[place++] = (unsigned short)((row - tile_y) * TILE_WIDTH + column - tile_x);
}

// reference.postprocess: logits and their winners -> mask uint8 (mask.height, mask.width); where `overlay` is given,
// reference.overlay of a frame of that size too.
//
// Where the four neighbours have one winner it is the class between them, because a bilinear value never leaves the
// order of its corners; only the boundaries between classes read logits. Thread (x, y) makes pixels 4x .. 4x + 3 of
// row y: 16 winners from the cache, one store of four bytes. A block's boundary pixels are queued in shared memory, a
// cell of the logits after another, and all its threads work them off: 4 * classes logits for each, of which those of a
// cell are the same. An overlay adds 12 bytes read of the frame, 12 written, and 4 shades from the cache.
template <typename T, bool LAST>
__device__ void upsample_argmax(Logits<T, LAST> logits, const unsigned char* winners, Mask mask,
                                const unsigned char* frame, const unsigned short* shades, int keep,
                                unsigned char* overlay) {
    __shared__ int queued;
    __shared__ unsigned short queue[TILE_WIDTH * DOWN];  // row * TILE_WIDTH + column of each, within the tile
    __shared__ Strip<unsigned char> classes[THREADS];    // of the tile
    const int tile_x = blockIdx.x * TILE_WIDTH, tile_y = blockIdx.y * DOWN;
    const int x = tile_x + PIXELS * threadIdx.x, y = tile_y + threadIdx.y;
    const int thread = threadIdx.y * ACROSS + threadIdx.x;
    if (thread == 0) queued = 0;
    Strip<unsigned char> strip = {};
    bool boundary = false;
    if (y < mask.height) {
        const AxisSample v = mask.down[y];
        const unsigned char* upper = winners + (size_t)v.first * logits.width * logits.block;
        const unsigned char* lower = winners + (size_t)v.second * logits.width * logits.block;
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) {
            if (x + i >= mask.width) break;
            const AxisSample u = mask.across[x + i];
            const int winner = upper[u.first];
            const bool one = upper[u.second] == winner && lower[u.first] == winner && lower[u.second] == winner;
            strip.value[i] = (unsigned char)(one ? winner : UNDECIDED);
            boundary |= strip.value[i] == UNDECIDED;
        }
    }
    if (__syncthreads_or(boundary)) {
        classes[thread] = strip;
#pragma unroll
        for (int i = 0; i < PIXELS; ++i)
            if (strip.value[i] == UNDECIDED) queue_cell(mask, x + i, y, tile_x, tile_y, &queued, queue);
        __syncthreads();
        for (int i = thread; i < queued; i += THREADS) {
            const int row = queue[i] / TILE_WIDTH, column = queue[i] % TILE_WIDTH;
            const int winner = upsampled_winner(logits, mask.across[tile_x + column], mask.down[tile_y + row]);
            reinterpret_cast<unsigned char*>(classes)[queue[i]] = (unsigned char)winner;
        }
        __syncthreads();
        strip = classes[thread];
    }
    if (x >= mask.width || y >= mask.height) return;
    const size_t row = (size_t)y * mask.width;
    store_strip(mask.pixels + row, x, mask.width, strip);
    if (overlay) blend(frame + 3 * row, shades, keep, x, mask.width, strip, overlay + 3 * row);
}

// The largest logit at a pixel's place between four less the second largest; not a number where one is not finite.
template <typename T, bool LAST>
__device__ inline float lead(Logits<T, LAST> logits, AxisSample u, AxisSample v) {
    const size_t step = logits.step(), left = logits.column(u.first), right = logits.column(u.second);
    const T *upper = logits.values + logits.row(v.first), *lower = logits.values + logits.row(v.second);
    const T *a = upper + left, *b = upper + right, *c = lower + left, *d = lower + right;
    float best = -INFINITY, second = -INFINITY;
    bool finite = true;
#pragma unroll 1  // four pixels at once are enough; twice that spills
    for (int id = 0; id < logits.classes; ++id, a += step, b += step, c += step, d += step) {
        const float value = bilinear(to_float(*a), to_float(*b), to_float(*c), to_float(*d), u, v);
        finite &= fabsf(value) < INFINITY;
        if (value > second) second = value > best ? best : value;
        if (value > best) best = value;
    }
    return finite ? best - second : NAN;
}

// How many of the 255 steps, which ascend, are not above a lead.
__device__ inline unsigned char step_of(float lead, const float* steps) {
    int count = 0;
    for (int half = 128; half; half /= 2)
        if (lead >= steps[count + half - 1]) count += half;
    return (unsigned char)count;
}

// reference.confidence: logits -> confidence uint8 (made.height, made.width); `steps` is reference.CONFIDENCE_STEPS.
//
// Thread (x, y) makes pixels 4x .. 4x + 3 of row y and reads 4 * classes logits for each, of which neighbours share most
// through the cache. It runs where it is asked for alone, after `upsample_argmax`, which is none the slower for it.
template <typename T, bool LAST>
__device__ void confidence(Logits<T, LAST> logits, Mask made, const float* steps) {
    const int x = PIXELS * (blockIdx.x * blockDim.x + threadIdx.x), y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= made.width || y >= made.height) return;
    Strip<unsigned char> strip = {};
    for (int i = 0; i < PIXELS && x + i < made.width; ++i)
        strip.value[i] = step_of(lead(logits, made.across[x + i], made.down[y]), steps);
    store_strip(made.pixels + (size_t)y * made.width, x, made.width, strip);
}

#define RESIZE_NORMALIZE(T, NAME, FUNCTION)                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME(                                                       \
        const unsigned char* frame, int frame_height, int frame_width, const AxisSample* across,                      \
        const AxisSample* down, const float* gain_bias, int bgr, int height, int width, T* input) {                   \
        FUNCTION<T>({frame, frame_height, frame_width, across, down}, gain_bias, bgr, height, width, input);          \
    }

#define UPSAMPLE_ARGMAX(T, NAME, LAST)                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(                                               \
        const T* logits, const unsigned char* winners, int classes, int block, int height, int width,                 \
        const AxisSample* across, const AxisSample* down, int mask_height, int mask_width, unsigned char* mask,       \
        const unsigned char* frame, const unsigned short* shades, int keep, unsigned char* overlay) {                 \
        upsample_argmax(Logits<T, LAST>{logits, classes, block, height, width}, winners,                              \
                        {mask, mask_height, mask_width, across, down}, frame, shades, keep, overlay);                 \
    }

#define CONFIDENCE(T, NAME, LAST)                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(                                               \
        const T* logits, int classes, int block, int height, int width, const AxisSample* across,                     \
        const AxisSample* down, int mask_height, int mask_width, const float* steps, unsigned char* made) {           \
        confidence(Logits<T, LAST>{logits, classes, block, height, width},                                            \
                   {made, mask_height, mask_width, across, down}, steps);                                             \
    }

#define KERNELS_FOR(T, SUFFIX)                                                                                        \
    RESIZE_NORMALIZE(T, resize_normalize_##SUFFIX, resize_normalize)                                                  \
    RESIZE_NORMALIZE(T, resize_normalize_last_##SUFFIX, resize_normalize_last)                                        \
    extern "C" __global__ void __launch_bounds__(THREADS) coarse_winner_##SUFFIX(                                     \
        const T* logits, int classes, int block, int height, int width, int undecided, unsigned char* winners) {      \
        coarse_winner(Logits<T, false>{logits, classes, block, height, width}, undecided, winners);                   \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) coarse_winner_last_##SUFFIX(                        \
        const T* logits, int classes, int block, int height, int width, int undecided, int tile,                      \
        unsigned char* winners) {                                                                                     \
        coarse_winner(Logits<T, true>{logits, classes, block, height, width}, undecided, tile, winners);              \
    }                                                                                                                 \
    UPSAMPLE_ARGMAX(T, upsample_argmax_##SUFFIX, false)                                                               \
    UPSAMPLE_ARGMAX(T, upsample_argmax_last_##SUFFIX, true)                                                           \
    CONFIDENCE(T, confidence_##SUFFIX, false)                                                                         \
    CONFIDENCE(T, confidence_last_##SUFFIX, true)

KERNELS_FOR(__half, fp16)
KERNELS_FOR(float, fp32)
