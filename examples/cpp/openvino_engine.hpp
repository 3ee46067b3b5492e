// An engine of this project on OpenVINO's CPU plugin: frames in, masks out, as runtime/backends/openvino.py.
#pragma once

#include <filesystem>
#include <map>
#include <openvino/openvino.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "manifest.hpp"
#include "segment.hpp"

namespace segment {

// What FP16 runs as on this CPU, as runtime.backends.openvino.execution_type.
inline std::string execution_type(const std::string& precision, const std::vector<std::string>& capabilities) {
    const std::string cap = max_isa();
    const auto has = [](const std::vector<std::string>& all, const std::string& one) {
        return std::find(all.begin(), all.end(), one) != all.end();
    };
    const std::vector<std::string> below_bf16 = {"sse41", "avx", "avx2", "avx2_vnni", "avx512_core",
                                                 "avx512_core_vnni"};
    const std::vector<std::string> below_fp16 = {"avx512_core_bf16"};
    const bool bf16 = has(capabilities, "BF16") && !has(below_bf16, cap);
    const bool fp16 = has(capabilities, "FP16") && !has(below_bf16, cap) && !has(below_fp16, cap);
    if (precision == "fp32" || !(bf16 || fp16)) return "f32";
    const std::string amx = "amx_fp16";
    const bool ends = cap.size() >= amx.size() && cap.compare(cap.size() - amx.size(), amx.size(), amx) == 0;
    const bool matrices = has(cpu_features(), amx) && (cap.empty() || ends);
    return fp16 && (matrices || !bf16) ? "f16" : "bf16";
}

// What an engine's float layers run as, and its maps are kept as, as runtime.backends.openvino.execution_of.
inline std::string execution_of(const Manifest& manifest, const std::vector<std::string>& capabilities) {
    const auto all_in = [&](const char* type) { return manifest.executed.size() == 1 && manifest.executed.count(type); };
    if (manifest.precision == "fp16" && all_in("fp32")) return "f32";
    const std::string wanted = execution_type(manifest.precision, capabilities), cap = max_isa();
    const std::vector<std::string> features = cpu_features(), below_avx512 = {"sse41", "avx", "avx2", "avx2_vnni"};
    const auto has = [](const std::vector<std::string>& all, const std::string& one) {
        return std::find(all.begin(), all.end(), one) != all.end();
    };
    const bool keeps_bf16 = has(features, "avx512f") && !has(below_avx512, cap);
    return wanted == "f32" && all_in("int8") && keeps_bf16 ? "bf16" : wanted;
}

// How many weighted layers an engine runs in each type, from its execution graph.
inline std::map<std::string, int> executed_types(const ov::CompiledModel& compiled) {
    const std::map<std::string, std::string> names = {
        {"f32", "fp32"}, {"f16", "fp16"}, {"bf16", "bf16"}, {"u8", "int8"}, {"i8", "int8"}};
    std::map<std::string, int> counts;
    for (const auto& layer : compiled.get_runtime_model()->get_ops()) {
        const auto kind = layer->get_rt_info().at("layerType").as<std::string>();
        if (kind != "Convolution" && kind != "Deconvolution" && kind != "FullyConnected" && kind != "MatMul") continue;
        const auto type = layer->get_rt_info().at("runtimePrecision").as<std::string>();
        const auto found = names.find(type);
        ++counts[found == names.end() ? type : found->second];
    }
    return counts;
}

class Engine {
  public:
    // Checked against its manifest and this machine. `threads` 0: as many as OpenVINO chooses for one frame at a time.
    Engine(const std::filesystem::path& path, int threads)
        : manifest_(read_manifest(path, "openvino")),
          resizer_(manifest_.preprocess, rows_at_once(threads)),
          segmenter_(manifest_.preprocess, int(manifest_.classes.size()), manifest_.block, manifest_.upsample,
                     rows_at_once(threads)),
          threads_(threads) {
        const std::string build = ov::get_openvino_version().buildNumber;
        refuse_other_target(path.filename().string(), manifest_, this_cpu(build.substr(0, build.find('-'))));
        refuse_batches(path.filename().string(), manifest_);
        std::istringstream bytes(verified_engine(path, manifest_));
        compiled_ = core_.import_model(bytes, "CPU", options(threads));
        if (executed_types(compiled_) != manifest_.executed)
            throw Refused("the engine runs in other types than its manifest says; build it again");
        halved_ = compiled_.output().get_names().count("logits.halved") > 0;  // runtime/doubling.py
        request_ = compiled_.create_infer_request();
    }

    // frame uint8 (height, width, 3) RGB -> mask uint8 (height, width): the class of every pixel.
    void segment(const uint8_t* frame, int height, int width, uint8_t* mask) {
        const size_t rows = size_t(manifest_.preprocess.height), columns = size_t(manifest_.preprocess.width);
        auto* input = const_cast<uint8_t*>(resizer_.resize(frame, height, width));  // OpenVINO does not write to it
        request_.set_input_tensor(ov::Tensor(ov::element::u8, {1, rows, columns, 3}, input));
        request_.infer();
        const ov::Tensor logits = request_.get_output_tensor();  // (rows, columns, channels), of one frame
        ov::Shape shape = logits.get_shape();
        if (shape.size() == 4 && shape[0] == 1) shape.erase(shape.begin());
        if (shape.size() != 3 || shape[2] != manifest_.classes.size() * manifest_.block * manifest_.block)
            throw Refused("the engine's logits have another shape than its manifest says; build it again");
        const int h = int(shape[0]), w = int(shape[1]), channels = int(shape[2]);
        if (logits.get_element_type() == ov::element::f32)
            from_logits(logits.data<const float>(), h, w, channels, height, width, mask);
        else if (logits.get_element_type() == ov::element::bf16)
            from_logits(static_cast<const BFloat16*>(logits.data()), h, w, channels, height, width, mask);
        else
            throw Refused("the engine's logits are " + logits.get_element_type().to_string() +
                          ", expected f32 or bf16");
    }

    const std::vector<std::string>& classes() const { return manifest_.classes; }

  private:
    template <typename T>
    void from_logits(const T* logits, int h, int w, int channels, int height, int width, uint8_t* mask) {
        if (!halved_) return segmenter_.segment(logits, h, w, height, width, mask);
        doubled_.resize(4 * size_t(h) * w * channels);
        double_logits(logits, h, w, channels, rows_at_once(threads_), doubled_.data());
        segmenter_.segment(doubled_.data(), 2 * h, 2 * w, height, width, mask);
    }

    static int rows_at_once(int threads) { return threads ? threads : tbb::this_task_arena::max_concurrency(); }

    // The plugin's options, which an exported engine forgets: runtime.backends.openvino.compile_options.
    ov::AnyMap options(int threads) {
        const auto capabilities = core_.get_property("CPU", ov::device::capabilities);
        const auto runs_as = execution_of(manifest_, capabilities);
        ov::AnyMap made = {{"INFERENCE_PRECISION_HINT", runs_as},
                           {"PERFORMANCE_HINT", "LATENCY"},
                           {"NUM_STREAMS", "1"}};
        if (threads) made["INFERENCE_NUM_THREADS"] = std::to_string(threads);
        return made;
    }

    Manifest manifest_;
    Resizer resizer_;
    Segmenter segmenter_;
    int threads_;
    bool halved_ = false;
    std::vector<float> doubled_;  // logits, where the engine leaves that to be done
    ov::Core core_;
    ov::CompiledModel compiled_;
    ov::InferRequest request_;
};

}  // namespace segment
