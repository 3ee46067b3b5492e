// What happens to a frame on a CPU before and after the network, in C++: the resize, and upsample with argmax in one
// pass. The definition of correct is runtime/reference.py, and these give its bytes. Compile with -ffp-contract=off:
// one contracted multiply-add changes the last bit of a value, and with it the winner of a tie.
#pragma once

#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "places.hpp"

#ifdef __FAST_MATH__
#error "segment.hpp: -ffast-math changes masks; compile without it, and with -ffp-contract=off"
#endif

namespace segment {

constexpr uint8_t UNDECIDED = 255;  // no class id: a lower class is so near below that rounding could make a tie
constexpr float EXACT = 0.0f;       // a margin that leaves nothing undecided
// Between four logits a value is rounded four times, by under 2^-21 of their size; this is well above. SMALLEST keeps
// out products that underflow, whose relative errors say nothing.
constexpr float MARGIN = 1.0f / (1 << 18);
constexpr float SMALLEST = 1e-24f;

// A bfloat16 as OpenVINO's tensors hold it: the upper half of a float.
struct BFloat16 {
    uint16_t bits;
};

inline float to_float(float value) { return value; }
inline float to_float(BFloat16 value) {
    const uint32_t bits = uint32_t(value.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

// Calls loop(start, stop) for bands of rows, at most `threads` of them at once.
template <typename Loop>
void in_bands(int threads, int rows, Loop loop) {
    const int bands = std::max(1, std::min(threads, rows));
    const auto edge = [&](int band) { return int(int64_t(rows) * band / bands); };
    tbb::parallel_for(0, bands, [&](int band) { loop(edge(band), edge(band + 1)); });
}

// Twice as many logits each way, as runtime/doubling.py: T (rows, columns, channels) -> float (2 * rows, 2 * columns,
// channels).
template <typename T>
void double_logits(const T* logits, int rows, int columns, int channels, int threads, float* doubled) {
    const auto other = [](int i, int size) { return i % 2 ? std::min(i / 2 + 1, size - 1) : std::max(i / 2 - 1, 0); };
    const size_t row = size_t(columns) * channels;
    in_bands(threads, 2 * rows, [&](int start, int stop) {
        std::vector<float> line(row);
        for (int y = start; y < stop; ++y) {
            const T *near = logits + y / 2 * row, *far = logits + other(y, rows) * row;
            for (size_t i = 0; i < row; ++i) line[i] = to_float(near[i]) * 0.75f + to_float(far[i]) * 0.25f;
            float* out = doubled + 2 * size_t(y) * row;
            for (int x = 0; x < 2 * columns; ++x) {
                const float *left = &line[size_t(x / 2) * channels], *right = &line[size_t(other(x, columns)) * channels];
                for (int c = 0; c < channels; ++c) *out++ = left[c] * 0.75f + right[c] * 0.25f;
            }
        }
    });
}

// Frames to a network's size, as reference.fit_frame; what one frame size needs is kept until another comes.
class Resizer {
  public:
    Resizer(const Preprocess& preprocess, int threads) : preprocess_(preprocess), threads_(threads) {}

    // frame uint8 (height, width, 3) RGB -> uint8 (preprocess.height, preprocess.width, 3): the frame itself where it
    // has that size, else a buffer that the next call overwrites.
    const uint8_t* resize(const uint8_t* frame, int height, int width) {
        if (height == preprocess_.height && width == preprocess_.width) return frame;
        if (height != height_ || width != width_) prepare(height, width);
        in_bands(threads_, box_.down.length, [&](int start, int stop) { rows(frame, start, stop); });
        return resized_.data();
    }

  private:
    void prepare(int height, int width) {
        height_ = height, width_ = width, box_ = box_of(preprocess_, height, width);
        down_ = axis_table(height, box_.down.length, Upsample::half_pixel);
        across_ = axis_table(width, box_.across.length, Upsample::half_pixel);
        const std::array<uint8_t, 3> colour = border(preprocess_);
        resized_.resize(size_t(preprocess_.height) * preprocess_.width * 3);
        for (size_t i = 0; i < resized_.size(); ++i) resized_[i] = colour[i % 3];
    }

    void rows(const uint8_t* frame, int start, int stop) {
        const size_t values = size_t(box_.across.length) * 3, line = size_t(width_) * 3;
        std::vector<float> upper(values), lower(values);
        int in_upper = -1, in_lower = -1;  // rows of the frame: neighbours share most of them
        for (int y = start; y < stop; ++y) {
            const int first = down_.first[y], second = down_.second[y];
            if (first == in_lower) std::swap(upper, lower), std::swap(in_upper, in_lower);
            if (first != in_upper) across(frame + first * line, upper.data()), in_upper = first;
            if (second != in_lower && second != first) across(frame + second * line, lower.data()), in_lower = second;
            const float v0 = down_.weight_first[y], v1 = down_.weight_second[y];
            const float *a = upper.data(), *c = second == first ? a : lower.data();
            uint8_t* out = resized_.data() + (size_t(box_.down.start + y) * preprocess_.width + box_.across.start) * 3;
            for (size_t i = 0; i < values; ++i) out[i] = uint8_t(int(std::nearbyint(a[i] * v0 + c[i] * v1)));
        }
    }

    void across(const uint8_t* row, float* line) const {
        for (int x = 0; x < box_.across.length; ++x) {
            const uint8_t *left = row + 3 * size_t(across_.first[x]), *right = row + 3 * size_t(across_.second[x]);
            const float u0 = across_.weight_first[x], u1 = across_.weight_second[x];
            for (int c = 0; c < 3; ++c) line[3 * x + c] = float(left[c]) * u0 + float(right[c]) * u1;
        }
    }

    Preprocess preprocess_;
    int threads_, height_ = 0, width_ = 0;
    Box box_{};
    AxisTable down_, across_;
    std::vector<uint8_t> resized_;
};

// The largest of `classes` values that lie `step` apart, the lowest id of equals; UNDECIDED as its comment says.
template <typename T>
uint8_t largest(const T* values, int classes, int step, float margin) {
    float best = to_float(values[0]), before = -std::numeric_limits<float>::infinity();
    int label = 0;
    for (int c = 1; c < classes; ++c) {
        const float value = to_float(values[c * step]);
        if (value > best) before = best, best = value, label = c;
    }
    const float size = std::max(std::fabs(best), std::fabs(before)) + SMALLEST;
    return margin > 0 && label > 0 && best - before <= size * margin ? UNDECIDED : uint8_t(label);
}

// One row of logits T (columns, classes) -> labels. Most pixels have their left neighbour's class: whether one does is
// a count without a branch, in vector registers.
template <typename T>
void label_pixels(const T* row, int columns, int classes, float margin, uint8_t* labels) {
    int label = 0;
    for (int x = 0; x < columns; ++x, row += classes) {
        const float value = to_float(row[label]);
        const float floor = value - (std::fabs(value) + SMALLEST) * (margin + margin);
        int below = 0;
        for (int c = 0; c < classes; ++c) below += to_float(row[c]) < floor;
        labels[x] = below == classes - 1 ? uint8_t(label) : largest(row, classes, 1, margin);
        if (labels[x] != UNDECIDED) label = labels[x];
    }
}

// One row of blocks of 2 x 2, T (columns, classes * 4) -> two rows of labels: four largest at once, without a branch.
template <typename T>
void label_pairs(const T* row, int columns, int classes, float margin, uint8_t* labels, size_t stride) {
    for (int x = 0; x < columns; ++x, row += 4 * size_t(classes)) {
        float best[4], before[4];
        int32_t label[4] = {};
        for (int p = 0; p < 4; ++p) best[p] = to_float(row[p]), before[p] = -std::numeric_limits<float>::infinity();
        for (int c = 1; c < classes; ++c)
            for (int p = 0; p < 4; ++p) {
                const float value = to_float(row[4 * c + p]);
                const bool larger = value > best[p];
                before[p] = larger ? best[p] : before[p];
                label[p] = larger ? c : label[p];
                best[p] = larger ? value : best[p];
            }
        for (int p = 0; p < 4; ++p) {
            const float size = std::max(std::fabs(best[p]), std::fabs(before[p])) + SMALLEST;
            const bool near = margin > 0 && label[p] > 0 && best[p] - before[p] <= size * margin;
            labels[(p / 2) * stride + 2 * x + p % 2] = near ? UNDECIDED : uint8_t(label[p]);
        }
    }
}

// One row of logits in blocks of any size -> `block` rows of labels.
template <typename T>
void label_row(const T* row, int columns, int classes, int block, float margin, uint8_t* labels, size_t stride) {
    if (block == 1) return label_pixels(row, columns, classes, margin, labels);
    if (block == 2) return label_pairs(row, columns, classes, margin, labels, stride);
    const int parts = block * block;
    for (int x = 0; x < columns; ++x)
        for (int p = 0; p < parts; ++p)
            labels[p / block * stride + x * block + p % block] =
                largest(row + size_t(x) * classes * parts + p, classes, parts, margin);
}

// Logits to masks, as reference.postprocess; what one frame size needs is kept until another comes.
class Segmenter {
  public:
    Segmenter(const Preprocess& preprocess, int classes, int block, Upsample upsample, int threads)
        : preprocess_(preprocess), classes_(classes), block_(block), upsample_(upsample), threads_(threads) {}

    // logits T (rows, columns, classes * block * block) -> mask uint8 (height, width), of a frame of that size.
    template <typename T>
    void segment(const T* logits, int rows, int columns, int height, int width, uint8_t* mask) {
        prepare(rows * block_, columns * block_, height, width);
        const bool same = box_.is_whole() && height == h_ && width == w_;
        uint8_t* labels = same ? mask : labels_.data();
        const size_t channels = size_t(classes_) * block_ * block_;
        in_bands(threads_, rows, [&](int start, int stop) {
            for (int y = start; y < stop; ++y)
                label_row(logits + y * columns * channels, columns, classes_, block_, same ? EXACT : MARGIN,
                          labels + size_t(y) * block_ * w_, w_);
        });
        if (!same) in_bands(threads_, h_, [&](int start, int stop) { cells(logits, start, stop, width, mask); });
    }

  private:
    void prepare(int h, int w, int height, int width) {
        if (h == h_ && w == w_ && height == height_ && width == width_) return;
        h_ = h, w_ = w, height_ = height, width_ = width, box_ = box_of(preprocess_, height, width);
        labels_.resize(size_t(h) * w);
        down_ = cells_of(cut_table(h, height, box_.down, upsample_), h);
        across_ = cells_of(cut_table(w, width, box_.across, upsample_), w);
    }

    // The mask in the cells below logit rows `start` to `stop`. A cell is the space from a logit to the next. A
    // bilinear value never leaves the order of its corners: where one class is largest at all four, it is so between
    // them.
    template <typename T>
    void cells(const T* logits, int start, int stop, int width, uint8_t* mask) const {
        std::vector<float> corners(4 * size_t(classes_));
        std::vector<int> candidates(classes_), undecided(w_);
        for (int i = start; i < stop; ++i) {
            const int first = down_.starts[i], end = down_.starts[i + 1], below = std::min(i + 1, h_ - 1);
            if (first == end) continue;
            uint8_t* line = mask + size_t(first) * width;
            const int count =
                fill(labels_.data() + size_t(i) * w_, labels_.data() + size_t(below) * w_, line, undecided);
            for (int y = first + 1; y < end; ++y) std::memcpy(mask + size_t(y) * width, line, width);
            for (int n = 0; n < count; ++n) {
                const int j = undecided[n], right = std::min(j + 1, w_ - 1);
                gather(logits, i, j, corners.data());
                gather(logits, i, right, corners.data() + classes_);
                gather(logits, below, j, corners.data() + 2 * classes_);
                gather(logits, below, right, corners.data() + 3 * classes_);
                paint(corners.data(), candidates, i, j, width, mask);
            }
        }
    }

    // Fills the cells of one class of a mask's line; lists the others that hold a pixel, and returns how many.
    int fill(const uint8_t* upper, const uint8_t* lower, uint8_t* line, std::vector<int>& undecided) const {
        int count = 0;
        for (int j = 0; j < w_; ++j) {
            const int right = std::min(j + 1, w_ - 1), first = across_.starts[j], end = across_.starts[j + 1];
            const uint8_t label = upper[j];
            const bool one = label == upper[right] && label == lower[j] && label == lower[right];
            if (one && label != UNDECIDED)
                std::fill(line + first, line + end, label);
            else if (first < end)
                undecided[count++] = j;
        }
        return count;
    }

    template <typename T>
    void gather(const T* logits, int y, int x, float* corner) const {
        const int parts = block_ * block_, columns = w_ / block_;
        const size_t pixel = size_t(y / block_) * columns + x / block_;
        const T* values = logits + pixel * classes_ * parts + (y % block_) * block_ + x % block_;
        for (int c = 0; c < classes_; ++c) corner[c] = to_float(values[c * parts]);
    }

    // The classes that may be largest somewhere between four corners: those whose largest corner reaches the largest of
    // the classes' smallest ones; this close below, rounding makes it a tie.
    int candidates_of(const float* a, std::vector<int>& candidates) const {
        const float *b = a + classes_, *c = b + classes_, *d = c + classes_;
        float floor = -std::numeric_limits<float>::infinity();
        for (int k = 0; k < classes_; ++k)
            floor = std::max(floor, std::min(std::min(a[k], b[k]), std::min(c[k], d[k])));
        floor -= std::fabs(floor) * MARGIN + SMALLEST;
        int count = 0;
        for (int k = 0; k < classes_; ++k)
            if (std::max(std::max(a[k], b[k]), std::max(c[k], d[k])) >= floor) candidates[count++] = k;
        return count;
    }

    void paint(const float* a, std::vector<int>& candidates, int i, int j, int width, uint8_t* mask) const {
        const float *b = a + classes_, *c = b + classes_, *d = c + classes_;
        const int count = candidates_of(a, candidates);
        for (int y = down_.starts[i]; y < down_.starts[i + 1]; ++y) {
            const float v0 = down_.weight_first[y], v1 = down_.weight_second[y];
            for (int x = across_.starts[j]; x < across_.starts[j + 1]; ++x) {
                const float u0 = across_.weight_first[x], u1 = across_.weight_second[x];
                float best = -std::numeric_limits<float>::infinity();
                int label = 0;
                for (int n = 0; n < count; ++n) {
                    const int k = candidates[n];
                    const float value = (a[k] * u0 + b[k] * u1) * v0 + (c[k] * u0 + d[k] * u1) * v1;
                    if (value > best) best = value, label = k;
                }
                mask[size_t(y) * width + x] = uint8_t(label);
            }
        }
    }

    Preprocess preprocess_;
    int classes_, block_;
    Upsample upsample_;
    int threads_, h_ = 0, w_ = 0, height_ = 0, width_ = 0;
    Box box_{};
    Cells down_, across_;
    std::vector<uint8_t> labels_;
};

}  // namespace segment
