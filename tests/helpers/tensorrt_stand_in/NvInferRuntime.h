// The part of TensorRT's interface that examples/cpp calls, without TensorRT: a network that knows one input and its
// logits. An engine is nine int32 (see `Known`), the bytes of that input, and those of the logits.
#pragma once

#include <cuda_runtime_api.h>

#include <cstring>
#include <map>
#include <string>

#define NV_TENSORRT_MAJOR 10
#define NV_TENSORRT_MINOR 7
#define NV_TENSORRT_PATCH 0
#define NV_TENSORRT_BUILD 23

namespace nvinfer1 {

enum class DataType : int32_t { kFLOAT = 0, kHALF = 1 };
enum class TensorFormat : int32_t { kLINEAR = 0, kHWC = 8 };
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };

struct Dims {
    int32_t nbDims;
    int64_t d[8];
};

class ILogger {
  public:
    enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2 };
    virtual void log(Severity severity, const char* message) noexcept = 0;
    virtual ~ILogger() = default;
};

// How a tensor lies: 0 planes, 1 channels last by its format, 2 by its dimensions.
struct Known {
    int32_t half, in[3], in_lies, out[3], out_lies;
};

class ICudaEngine;

class IExecutionContext {
  public:
    explicit IExecutionContext(const ICudaEngine& engine) : engine_(engine) {}
    virtual ~IExecutionContext() noexcept = default;
    bool setInputShape(const char*, const Dims& dims) noexcept { return dims.d[0] == 1; }
    bool setTensorAddress(const char* name, void* data) noexcept { return addresses_[name] = data, true; }
    inline bool enqueueV3(cudaStream_t) noexcept;

  private:
    const ICudaEngine& engine_;
    std::map<std::string, void*> addresses_;
};

class ICudaEngine {
  public:
    ICudaEngine(const Known& known, std::string bytes, ILogger& log) : known(known), bytes(bytes), logger(log) {}
    virtual ~ICudaEngine() noexcept = default;
    int32_t getNbIOTensors() const noexcept { return 2; }
    const char* getIOTensorName(int32_t index) const noexcept { return index ? "logits" : "frame"; }
    TensorIOMode getTensorIOMode(const char* name) const noexcept {
        return is_input(name) ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    DataType getTensorDataType(const char*) const noexcept { return known.half ? DataType::kHALF : DataType::kFLOAT; }
    TensorFormat getTensorFormat(const char* name) const noexcept {
        return (is_input(name) ? known.in_lies : known.out_lies) == 1 ? TensorFormat::kHWC : TensorFormat::kLINEAR;
    }
    Dims getTensorShape(const char* name) const noexcept {
        const int32_t* side = is_input(name) ? known.in : known.out;
        if ((is_input(name) ? known.in_lies : known.out_lies) == 2) return {4, {-1, side[1], side[2], side[0]}};
        return {4, {-1, side[0], side[1], side[2]}};
    }
    IExecutionContext* createExecutionContext() noexcept { return new IExecutionContext(*this); }

    const Known known;
    const std::string bytes;  // the input, then the logits
    ILogger& logger;

  private:
    static bool is_input(const char* name) { return std::strcmp(name, "frame") == 0; }
};

inline bool IExecutionContext::enqueueV3(cudaStream_t) noexcept {
    const int32_t* side = engine_.known.in;
    const size_t length = size_t(side[0]) * side[1] * side[2] * (engine_.known.half ? 2 : 4);
    if (std::memcmp(addresses_["frame"], engine_.bytes.data(), length)) {
        engine_.logger.log(ILogger::Severity::kERROR, "the input is another one");
        return false;
    }
    std::memcpy(addresses_["logits"], engine_.bytes.data() + length, engine_.bytes.size() - length);
    return true;
}

class IRuntime {
  public:
    explicit IRuntime(ILogger& logger) : logger_(logger) {}
    virtual ~IRuntime() noexcept = default;
    ICudaEngine* deserializeCudaEngine(const void* blob, size_t size) noexcept {
        Known known;
        if (size < sizeof known) return logger_.log(ILogger::Severity::kERROR, "this is no engine"), nullptr;
        std::memcpy(&known, blob, sizeof known);
        return new ICudaEngine(known, {static_cast<const char*>(blob) + sizeof known, size - sizeof known}, logger_);
    }

  private:
    ILogger& logger_;
};

inline IRuntime* createInferRuntime(ILogger& logger) noexcept { return new IRuntime(logger); }

}  // namespace nvinfer1
