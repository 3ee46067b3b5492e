// Where the pixels of a frame, a network's input and its logits lie among each other: runtime/fit.py and the tables of
// runtime/reference.py, in doubles as there, so that every weight is the same float.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

namespace segment {

enum class Upsample { half_pixel, align_corners, nearest };
enum class Fit { stretch, pad, automatic };

// How a frame becomes a network's input, as far as that is not done by the graph.
struct Preprocess {
    int height, width;
    double scale;
    std::array<double, 3> mean;  // in the network's order of channels
    bool bgr;
    Fit fit;
    std::array<double, 3> deviation{1, 1, 1};  // `std` of the spec, where the graph does not normalise
};

// A stretch of one axis of the network's input: `length` of `whole` from `start` on.
struct Span {
    int start, length, whole;
};

// The part of a network's input that the frame fills.
struct Box {
    Span down, across;
    bool is_whole() const { return down.length == down.whole && across.length == across.whole; }
};

// Bilinear resizing along one axis: out[i] = x[first[i]] * weight_first[i] + x[second[i]] * weight_second[i].
struct AxisTable {
    std::vector<int> first, second;
    std::vector<float> weight_first, weight_second;
};

// The same by cell: cell i, the space from an input sample to the next, holds the outputs starts[i] to starts[i + 1].
struct Cells {
    std::vector<int> starts;
    std::vector<float> weight_first, weight_second;
};

// Halves to even, as Python's round and numpy.rint.
inline Span middle(double length, int whole) {
    const int pixels = std::min(whole, std::max(1, int(std::nearbyint(length))));
    return {(whole - pixels) / 2, pixels, whole};
}

inline Box box_of(const Preprocess& preprocess, int height, int width) {
    constexpr double FARTHEST = 1.75;
    const double rows = preprocess.height, columns = preprocess.width;
    const double ratio = (width * rows) / (height * columns);
    const bool far = std::max(ratio, 1 / ratio) > FARTHEST;
    if (preprocess.fit == Fit::stretch || (preprocess.fit == Fit::automatic && !far))
        return {{0, preprocess.height, preprocess.height}, {0, preprocess.width, preprocess.width}};
    const double share = std::min(rows / height, columns / width);
    return {middle(height * share, preprocess.height), middle(width * share, preprocess.width)};
}

// The colour around a frame that does not fill the network's input, RGB.
inline std::array<uint8_t, 3> border(const Preprocess& preprocess) {
    std::array<uint8_t, 3> colour{};
    for (int c = 0; c < 3; ++c) {
        const double value = std::nearbyint(preprocess.mean[c] / preprocess.scale);
        colour[preprocess.bgr ? 2 - c : c] = uint8_t(std::min(255.0, std::max(0.0, value)));
    }
    return colour;
}

template <typename Position>
AxisTable table_at(int n_in, int n_out, Position position) {
    AxisTable table;
    for (int i = 0; i < n_out; ++i) {
        const double place = std::min(double(n_in - 1), std::max(0.0, position(double(i))));
        const int first = int(std::floor(place));
        const double fraction = place - first;
        table.first.push_back(first);
        table.second.push_back(std::min(first + 1, n_in - 1));
        table.weight_first.push_back(float(1 - fraction));
        table.weight_second.push_back(float(fraction));
    }
    return table;
}

// Where each of `n_out` samples lies among `n_in`.
inline AxisTable axis_table(int n_in, int n_out, Upsample upsample) {
    const double corners = (n_in - 1) / double(std::max(n_out - 1, 1)), ratio = n_in / double(n_out);
    return table_at(n_in, n_out, [=](double i) {
        if (upsample == Upsample::align_corners) return i * corners;
        if (upsample == Upsample::nearest) return std::floor((i + 0.5) * n_in / n_out);
        return (i + 0.5) * ratio - 0.5;
    });
}

// Where each of a frame's `n_out` samples lies among `n_in` logits, of which the frame fills a span alone.
inline AxisTable cut_table(int n_in, int n_out, Span span, Upsample upsample) {
    if (span.length == span.whole) return axis_table(n_in, n_out, upsample);
    const double share = span.length / double(n_out), ratio = n_in / double(span.whole);
    const double corners = (n_in - 1) / double(std::max(span.whole - 1, 1));
    return table_at(n_in, n_out, [=](double i) {
        const double place = span.start + (i + 0.5) * share;  // in the network's input
        if (upsample == Upsample::align_corners) return (place - 0.5) * corners;
        return upsample == Upsample::nearest ? std::floor(place * ratio) : place * ratio - 0.5;
    });
}

// Where each sample of an axis of the network's input lies among a frame's `n_in`; outside the span, no weight.
inline AxisTable fitted_table(int n_in, Span span) {
    AxisTable table = axis_table(n_in, span.length, Upsample::half_pixel);
    const auto pad = [&](auto& values) {
        values.insert(values.begin(), size_t(span.start), 0);
        values.resize(size_t(span.whole));
    };
    pad(table.first), pad(table.second), pad(table.weight_first), pad(table.weight_second);
    return table;
}

inline Cells cells_of(const AxisTable& table, int n_in) {
    Cells cells{{}, table.weight_first, table.weight_second};
    for (int i = 0; i <= n_in; ++i) {
        const auto start = std::lower_bound(table.first.begin(), table.first.end(), i);
        cells.starts.push_back(int(start - table.first.begin()));
    }
    return cells;
}

}  // namespace segment
