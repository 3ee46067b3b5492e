// segment.cu as it is, with a host function for each kernel. Compile with -fmad=false, as segment.cu says.
#include "gpu_kernels.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "segment.cu"

namespace segment {
namespace {

template <typename... Types, typename Given, std::size_t... Index>
void launch_with(void (*kernel)(Types...), dim3 grid, cudaStream_t stream, Given given, std::index_sequence<Index...>) {
    std::tuple<Types...> values{static_cast<Types>(std::get<Index>(given))...};  // of the kernel's own types
    void* arguments[] = {&std::get<Index>(values)...};
    checked(cudaLaunchKernel(kernel, grid, dim3{ACROSS, DOWN, 1}, arguments, 0, stream));
}

template <typename... Types, typename... Given>
void launch(void (*kernel)(Types...), dim3 grid, cudaStream_t stream, Given... given) {
    static_assert(sizeof...(Types) == sizeof...(Given), "a kernel's arguments, all of them");
    launch_with(kernel, grid, stream, std::make_tuple(given...), std::index_sequence_for<Types...>());
}

// Blocks for `across` by `down` threads.
dim3 grid_of(int across, int down) {
    return {unsigned((across + ACROSS - 1) / ACROSS), unsigned((down + DOWN - 1) / DOWN), 1};
}

int strips(int width) { return (width + PIXELS - 1) / PIXELS; }

const AxisSample* samples(const void* at) { return static_cast<const AxisSample*>(at); }

// How many positions a block takes where channels are last: a winner a thread, as far as their logits fit.
int tile_of(Tensor logits, int block) {
    const int position_bytes = logits.channels * (logits.half ? 2 : 4);
    const int most = std::max(1, std::min(THREADS / (block * block), STAGED_BYTES / position_bytes));
    return most >= 8 ? most / 8 * 8 : most;
}

template <typename T, typename Planes, typename Last>
void winners_by(Planes planes, Last last, Tensor logits, int block, bool undecided, void* winners, cudaStream_t stream) {
    const auto* values = static_cast<const T*>(logits.values);
    auto* out = static_cast<unsigned char*>(winners);
    const int classes = logits.channels / (block * block), h = logits.height, w = logits.width;
    if (!logits.channels_last)
        return launch(planes, grid_of((w + POSITIONS - 1) / POSITIONS, h * block), stream, values, classes, block, h, w,
                      int(undecided), out);
    const int tile = tile_of(logits, block), blocks = (h * w + tile - 1) / tile;
    launch(last, {unsigned(blocks), 1, 1}, stream, values, classes, block, h, w, int(undecided), tile, out);
}

template <typename T, typename Kernel>
void mask_by(Kernel kernel, Tensor logits, int block, const void* winners, Axes axes, Pixels mask, cudaStream_t stream) {
    launch(kernel, grid_of(strips(mask.width), mask.height), stream, static_cast<const T*>(logits.values),
           static_cast<const unsigned char*>(winners), logits.channels / (block * block), block, logits.height,
           logits.width, samples(axes.across), samples(axes.down), mask.height, mask.width, mask.values, nullptr, nullptr,
           0, nullptr);  // no overlay
}

template <typename T, typename Kernel>
void input_by(Kernel kernel, Pixels frame, Axes axes, const void* gain_bias, bool bgr, Tensor input,
              cudaStream_t stream) {
    launch(kernel, grid_of(strips(input.width), input.height), stream, frame.values, frame.height, frame.width,
           samples(axes.across), samples(axes.down), static_cast<const float*>(gain_bias), int(bgr), input.height,
           input.width, static_cast<T*>(input.values));
}

}  // namespace

void checked(cudaError_t answer) {
    if (answer != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(answer));
}

std::vector<unsigned char> axis_samples(const AxisTable& table) {
    std::vector<unsigned char> bytes(table.first.size() * sizeof(AxisSample));
    for (size_t i = 0; i < table.first.size(); ++i) {
        const int second = table.weight_second[i] == 0 ? table.first[i] : table.second[i];
        const AxisSample sample{table.first[i], second, table.weight_first[i], table.weight_second[i]};
        std::memcpy(bytes.data() + i * sizeof sample, &sample, sizeof sample);
    }
    return bytes;
}

std::array<float, 9> gain_bias(const Preprocess& preprocess) {
    std::array<float, 9> made{};
    for (int c = 0; c < 3; ++c) {
        made[c] = float(preprocess.scale / preprocess.deviation[c]);
        made[3 + c] = float(-preprocess.mean[c] / preprocess.deviation[c]);
        made[6 + c] = border(preprocess)[c];
    }
    return made;
}

void resize_normalize(Pixels frame, Axes axes, const void* gain_bias, bool bgr, Tensor input, cudaStream_t stream) {
    if (input.half)
        input_by<__half>(input.channels_last ? resize_normalize_last_fp16 : resize_normalize_fp16, frame, axes,
                         gain_bias, bgr, input, stream);
    else
        input_by<float>(input.channels_last ? resize_normalize_last_fp32 : resize_normalize_fp32, frame, axes,
                        gain_bias, bgr, input, stream);
}

void coarse_winner(Tensor logits, int block, bool undecided, void* winners, cudaStream_t stream) {
    if (logits.half)
        winners_by<__half>(coarse_winner_fp16, coarse_winner_last_fp16, logits, block, undecided, winners, stream);
    else
        winners_by<float>(coarse_winner_fp32, coarse_winner_last_fp32, logits, block, undecided, winners, stream);
}

void upsample_argmax(Tensor logits, int block, const void* winners, Axes axes, Pixels mask, cudaStream_t stream) {
    if (logits.half)
        mask_by<__half>(logits.channels_last ? upsample_argmax_last_fp16 : upsample_argmax_fp16, logits, block, winners,
                        axes, mask, stream);
    else
        mask_by<float>(logits.channels_last ? upsample_argmax_last_fp32 : upsample_argmax_fp32, logits, block, winners,
                       axes, mask, stream);
}

}  // namespace segment
