// An engine of this project on TensorRT: frames in, masks out, as runtime/backends/tensorrt.py without its CUDA graph.
// It was compiled, and NOT RUN ON A GPU: none was there.
#pragma once

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "gpu_kernels.hpp"
#include "manifest.hpp"

namespace segment {

using Memory = std::unique_ptr<void, cudaError_t (*)(void*)>;

inline Memory on_device(size_t bytes) {
    void* made = nullptr;
    checked(cudaMalloc(&made, bytes));
    return {made, cudaFree};
}

inline Memory page_locked(size_t bytes) {
    void* made = nullptr;
    checked(cudaMallocHost(&made, bytes));
    return {made, cudaFreeHost};
}

template <typename Values>
Memory uploaded(const Values& values) {
    const size_t bytes = values.size() * sizeof(values[0]);
    Memory made = on_device(bytes);
    checked(cudaMemcpy(made.get(), values.data(), bytes, cudaMemcpyHostToDevice));
    return made;
}

// Keeps the first error: the cause, where the ones after it are consequences.
struct Log : nvinfer1::ILogger {
    std::string first;
    void log(Severity severity, const char* message) noexcept override {
        if (severity <= Severity::kERROR && first.empty()) first = message;
    }
};

// What `refuse_other_target` holds the manifest to, of the first GPU. The build number counts where it was written.
inline std::vector<std::string> this_gpu(const Manifest& manifest) {
    cudaDeviceProp gpu{};
    checked(cudaGetDeviceProperties(&gpu, 0));
    std::string version;
    for (int part : {NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR, NV_TENSORRT_PATCH, NV_TENSORRT_BUILD})
        version += (version.empty() ? "" : ".") + std::to_string(part);
    const std::string& built = manifest.target[1].second;
    return {"tensorrt", version.rfind(built + ".", 0) == 0 ? built : version, gpu.name,
            std::to_string(gpu.major) + "." + std::to_string(gpu.minor), this_system()};
}

class Engine {
  public:
    // Checked against its manifest and this machine; `threads` are the CPU's, where OpenVINO runs.
    Engine(const std::filesystem::path& path, int threads) : manifest_(read_manifest(path, "tensorrt")) {
        const std::string name = path.filename().string();
        if (threads) throw Refused("--threads is for engines of OpenVINO; this one runs on the GPU");
        refuse_other_target(name, manifest_, this_gpu(manifest_));
        refuse_batches(name, manifest_);
        open(verified_engine(path, manifest_));
        const Preprocess& preprocess = manifest_.preprocess;
        const int step = manifest_.stride * manifest_.block;
        const int channels = int(manifest_.classes.size()) * manifest_.block * manifest_.block;
        input_ = bound(nvinfer1::TensorIOMode::kINPUT, 3, preprocess.height, preprocess.width, 4);
        logits_ = bound(nvinfer1::TensorIOMode::kOUTPUT, channels, (preprocess.height + step - 1) / step,
                        (preprocess.width + step - 1) / step, channels);
        gain_bias_ = uploaded(gain_bias(preprocess));
        winners_ = on_device(size_t(rows()) * columns());
        cudaStream_t stream = nullptr;
        checked(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        stream_.reset(stream);
    }

    // frame uint8 (height, width, 3) RGB -> mask uint8 (height, width): the class of every pixel.
    void segment(const uint8_t* frame, int height, int width, uint8_t* mask) {
        if (height != height_ || width != width_) prepare(height, width);
        const size_t pixels = size_t(height) * width;
        const Pixels frame_dev{static_cast<uint8_t*>(frame_dev_.get()), height, width};
        const Pixels mask_dev{static_cast<uint8_t*>(mask_dev_.get()), height, width};
        std::memcpy(frame_pinned_.get(), frame, 3 * pixels);
        checked(cudaMemcpyAsync(frame_dev.values, frame_pinned_.get(), 3 * pixels, cudaMemcpyHostToDevice, stream()));
        resize_normalize(frame_dev, inward_, gain_bias_.get(), manifest_.preprocess.bgr, input_, stream());
        if (!context_->enqueueV3(stream())) throw Refused("TensorRT cannot run the engine: " + log_.first);
        if (whole_ && height == rows() && width == columns()) {
            coarse_winner(logits_, manifest_.block, false, mask_dev.values, stream());
        } else {
            coarse_winner(logits_, manifest_.block, true, winners_.get(), stream());
            upsample_argmax(logits_, manifest_.block, winners_.get(), outward_, mask_dev, stream());
        }
        checked(cudaMemcpyAsync(mask_pinned_.get(), mask_dev.values, pixels, cudaMemcpyDeviceToHost, stream()));
        checked(cudaStreamSynchronize(stream()));
        std::memcpy(mask, mask_pinned_.get(), pixels);
    }

    const std::vector<std::string>& classes() const { return manifest_.classes; }

  private:
    void open(const std::string& bytes) {
        runtime_.reset(nvinfer1::createInferRuntime(log_));
        if (runtime_) engine_.reset(runtime_->deserializeCudaEngine(bytes.data(), bytes.size()));
        if (engine_) context_.reset(engine_->createExecutionContext());
        if (!context_) throw Refused("TensorRT refuses the engine: " + log_.first);
    }

    // The engine's only tensor of that direction, with memory that it reads or writes from now on.
    Tensor bound(nvinfer1::TensorIOMode mode, int channels, int height, int width, int last_channels) {
        std::vector<const char*> names;
        for (int i = 0; i < engine_->getNbIOTensors(); ++i)
            if (engine_->getTensorIOMode(engine_->getIOTensorName(i)) == mode)
                names.push_back(engine_->getIOTensorName(i));
        if (names.size() != 1) throw Refused("the engine has another number of tensors than one in and one out");
        Tensor tensor = tensor_of(names[0], channels, height, width, last_channels);
        nvinfer1::Dims dims = engine_->getTensorShape(names[0]);
        const bool open = mode == nvinfer1::TensorIOMode::kINPUT && dims.d[0] == -1;
        dims.d[0] = 1;
        tensors_.push_back(on_device(tensor.bytes()));
        tensor.values = tensors_.back().get();
        if ((open && !context_->setInputShape(names[0], dims)) || !context_->setTensorAddress(names[0], tensor.values))
            throw Refused(std::string("TensorRT takes no memory for ") + names[0] + ": " + log_.first);
        return tensor;
    }

    Tensor tensor_of(const char* name, int channels, int height, int width, int last_channels) const {
        using Sides = std::vector<int64_t>;
        const auto type = engine_->getTensorDataType(name);
        const auto format = engine_->getTensorFormat(name);
        const auto dims = engine_->getTensorShape(name);
        const bool half = type == nvinfer1::DataType::kHALF, linear = format == nvinfer1::TensorFormat::kLINEAR;
        const bool last = format == nvinfer1::TensorFormat::kHWC;
        const Sides sides(dims.d + 1, dims.d + std::max(1, dims.nbDims));
        if (dims.nbDims == 4 && (dims.d[0] == 1 || dims.d[0] == -1) && (half || type == nvinfer1::DataType::kFLOAT)) {
            if (linear && sides == Sides{channels, height, width})
                return {nullptr, channels, height, width, half, false};
            if ((linear && sides == Sides{height, width, last_channels}) ||
                (last && sides == Sides{last_channels, height, width}))
                return {nullptr, last_channels, height, width, half, true};
        }
        throw Refused(std::string("the engine's tensor ") + name + " is of another shape or type than its manifest " +
                      "says; build it again");
    }

    void prepare(int height, int width) {
        height_ = width_ = 0;  // none, where what follows fails
        const Box box = box_of(manifest_.preprocess, height, width);
        const Upsample how = manifest_.upsample;
        tables_[0] = uploaded(axis_samples(fitted_table(width, box.across)));
        tables_[1] = uploaded(axis_samples(fitted_table(height, box.down)));
        tables_[2] = uploaded(axis_samples(cut_table(columns(), width, box.across, how)));
        tables_[3] = uploaded(axis_samples(cut_table(rows(), height, box.down, how)));
        inward_ = {tables_[0].get(), tables_[1].get()}, outward_ = {tables_[2].get(), tables_[3].get()};
        const size_t pixels = size_t(height) * width;
        frame_pinned_ = page_locked(3 * pixels), mask_pinned_ = page_locked(pixels);
        frame_dev_ = on_device(3 * pixels), mask_dev_ = on_device(pixels);
        height_ = height, width_ = width, whole_ = box.is_whole();
    }

    int rows() const { return logits_.height * manifest_.block; }
    int columns() const { return logits_.width * manifest_.block; }
    cudaStream_t stream() const { return stream_.get(); }

    Manifest manifest_;
    Log log_;  // outlives what TensorRT made with it, as the runtime outlives the engine, and that its context
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::vector<Memory> tensors_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    Tensor input_{}, logits_{};
    Memory gain_bias_{nullptr, cudaFree}, winners_{nullptr, cudaFree};
    Memory tables_[4] = {{nullptr, cudaFree}, {nullptr, cudaFree}, {nullptr, cudaFree}, {nullptr, cudaFree}};
    Memory frame_pinned_{nullptr, cudaFreeHost}, mask_pinned_{nullptr, cudaFreeHost};
    Memory frame_dev_{nullptr, cudaFree}, mask_dev_{nullptr, cudaFree};
    Axes inward_{}, outward_{};
    int height_ = 0, width_ = 0;
    bool whole_ = false;
    std::unique_ptr<CUstream_st, cudaError_t (*)(cudaStream_t)> stream_{nullptr, cudaStreamDestroy};
};

}  // namespace segment
