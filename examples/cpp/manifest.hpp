// The JSON beside an engine, and the checks that come before the engine is opened: runtime/manifest.py.
#pragma once

#include <openssl/evp.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "places.hpp"

namespace segment {

constexpr int MANIFEST_VERSION = 3, HALVED_VERSION = 4;  // 4: logits that are still to be doubled, on OpenVINO

// What a user can cause, told in one line.
struct Refused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Manifest {
    Preprocess preprocess;
    std::vector<std::string> classes;
    int block, stride, batch;
    Upsample upsample;
    std::string precision, engine_sha256;
    std::map<std::string, int> executed;  // weighted layers by type
    std::vector<std::pair<std::string, std::string>> target;
};

inline std::string read_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), {}};
    if (!file || std::filesystem::is_directory(path)) throw Refused(path.string() + " cannot be read");
    return bytes;
}

// A temporary name, then its own: nobody sees half a file.
inline void write_file(const std::filesystem::path& path, const std::string& bytes) {
    const std::filesystem::path temporary = path.string() + ".part";
    std::ofstream file(temporary, std::ios::binary);
    file.write(bytes.data(), std::streamsize(bytes.size()));
    file.close();
    if (!file) throw Refused(path.string() + " cannot be written");
    std::filesystem::rename(temporary, path);
}

inline std::string sha256(const std::string& bytes) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    if (!EVP_Digest(bytes.data(), bytes.size(), digest, &length, EVP_sha256(), nullptr))
        throw std::runtime_error("OpenSSL computes no sha256");
    std::string text;
    for (unsigned int i = 0; i < length; ++i)
        text += "0123456789abcdef"[digest[i] >> 4], text += "0123456789abcdef"[digest[i] & 15];
    return text;
}

// The manifest's last line is the sha256 of what it would be without that line.
inline void refuse_edited(const std::string& text, const std::string& where) {
    const std::string key = ",\n \"manifest_sha256\": \"";
    const size_t at = text.rfind(key);
    if (at == std::string::npos || text.substr(at) != key + sha256(text.substr(0, at) + "\n}") + "\"\n}")
        throw Refused("manifest " + where + " is edited or of another version; build the engine again");
}

template <typename Value>
Value one_of(const std::string& given, const std::map<std::string, Value>& known) {
    const auto found = known.find(given);
    if (found == known.end()) throw Refused("\"" + given + "\" is none that this program knows");
    return found->second;
}

inline int within(const nlohmann::json& value, int least, int most) {
    const int64_t number = value.get<int64_t>();
    if (number < least || number > most) throw Refused(std::to_string(number) + " is out of bounds");
    return int(number);
}

inline Preprocess preprocess_from(const nlohmann::json& fields) {
    Preprocess made{};
    made.height = within(fields.at("height"), 1, 1 << 15), made.width = within(fields.at("width"), 1, 1 << 15);
    made.scale = fields.at("scale").get<double>(), made.mean = fields.at("mean").get<std::array<double, 3>>();
    made.deviation = fields.at("std").get<std::array<double, 3>>();
    made.bgr = one_of<bool>(fields.at("channel_order").get<std::string>(), {{"RGB", false}, {"BGR", true}});
    made.fit = one_of<Fit>(fields.value("fit", "stretch"),
                           {{"stretch", Fit::stretch}, {"pad", Fit::pad}, {"auto", Fit::automatic}});
    return made;
}

inline Manifest manifest_from(const nlohmann::json& fields, const std::string& backend) {
    within(fields.at("version"), MANIFEST_VERSION, HALVED_VERSION);
    if (fields.at("backend") != backend)
        throw Refused("this program opens engines of " + backend + " alone, it is of another backend");
    const nlohmann::json& spec = fields.at("spec");
    Manifest made{};
    made.preprocess = preprocess_from(spec.at("preprocess"));
    for (const auto& label : spec.at("classes")) made.classes.push_back(label.at(0).get<std::string>());
    if (made.classes.empty() || made.classes.size() > 255) throw Refused("there are no classes, or more than 255");
    made.block = within(spec.at("block"), 1, 16);
    made.stride = within(spec.at("output_stride"), 1, 1 << 15);
    made.batch = spec.value("batch_free", false) ? 1 : within(spec.at("batch"), 1, 1 << 15);
    made.upsample = one_of<Upsample>(spec.value("upsample", "half_pixel"), {{"half_pixel", Upsample::half_pixel},
                                                                            {"align_corners", Upsample::align_corners},
                                                                            {"nearest", Upsample::nearest}});
    made.precision = fields.at("precision").get<std::string>();
    made.engine_sha256 = fields.at("engine_sha256").get<std::string>();
    made.executed = fields.at("executed").get<std::map<std::string, int>>();
    for (const char* name : {"library", "library_version", "device", "capability", "system"})
        made.target.emplace_back(name, fields.at("target").at(name).get<std::string>());
    return made;
}

// The manifest of the engine at `path`, `name.engine` -> `name.json`, which is one of that backend.
inline Manifest read_manifest(const std::filesystem::path& path, const std::string& backend) {
    const std::filesystem::path beside = std::filesystem::path(path).replace_extension(".json");
    const std::string text = read_file(beside);
    Manifest made;
    try {
        made = manifest_from(nlohmann::json::parse(text), backend);
    } catch (const nlohmann::json::exception& error) {
        throw Refused("manifest " + beside.string() + " is not readable (" + error.what() +
                      "); build the engine again");
    } catch (const Refused& error) {
        throw Refused("manifest " + beside.string() + ": " + error.what());
    }
    refuse_edited(text, beside.string());
    return made;
}

// The engine's bytes, if they are the ones that were built.
inline std::string verified_engine(const std::filesystem::path& path, const Manifest& manifest) {
    std::string engine = read_file(path);
    const std::string found = sha256(engine);
    if (found != manifest.engine_sha256)
        throw Refused("engine " + path.string() + " is damaged or edited: " + std::to_string(engine.size()) +
                      " bytes with sha256 " + found.substr(0, 12) + ", its manifest says " +
                      manifest.engine_sha256.substr(0, 12) + "; build it again");
    return engine;
}

inline std::string stripped(const std::string& text) {
    const size_t first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t\r");
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

inline std::string cpuinfo(const std::string& field) {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (stripped(line.substr(0, line.find('\t'))) == field) return stripped(line.substr(line.find(':') + 1));
    return "";
}

// What the environment holds oneDNN to, as runtime.cpu.max_isa; empty: nothing.
inline std::string max_isa() {
    const char* value = std::getenv("ONEDNN_MAX_CPU_ISA");
    if (!value) value = std::getenv("DNNL_MAX_CPU_ISA");
    std::string lower = value ? value : "";
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return lower == "all" || lower == "default" ? "" : lower;
}

// The units that decide what an engine is compiled to, as runtime.cpu.cpu_features.
inline std::vector<std::string> cpu_features() {
    const std::string x86 = cpuinfo("flags");
    std::istringstream flags(x86.empty() ? cpuinfo("Features") : x86);
    std::vector<std::string> found;
    for (std::string flag; flags >> flag;)
        for (const char* start :
             {"asimd", "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni", "amx_"})
            if (flag.rfind(start, 0) == 0) {
                found.push_back(flag);
                break;
            }
    std::sort(found.begin(), found.end());
    if (!max_isa().empty()) found.push_back("max_cpu_isa=" + max_isa());
    return found;
}

// The system's name and the machine's, as runtime.manifest.this_system.
inline std::string this_system() {
    utsname system{};
    uname(&system);
    std::string name = system.sysname;
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return name + "-" + system.machine;
}

// What `refuse_other_target` holds the manifest of an OpenVINO engine to.
inline std::vector<std::string> this_cpu(const std::string& library_version) {
    std::string capability;
    for (const std::string& feature : cpu_features()) capability += (capability.empty() ? "" : " ") + feature;
    const std::string model = cpuinfo("model name");
    return {"openvino", library_version, model.empty() ? "unknown CPU" : model, capability, this_system()};
}

// Refuses an engine of another machine than `here`, and says in what it differs.
inline void refuse_other_target(const std::string& name, const Manifest& manifest,
                                const std::vector<std::string>& here) {
    std::string differs;
    for (size_t i = 0; i < here.size(); ++i)
        if (manifest.target[i].second != here[i])
            differs += (differs.empty() ? "" : "; ") + manifest.target[i].first + ": built for " +
                       manifest.target[i].second + ", this machine has " + here[i];
    if (!differs.empty())
        throw Refused("engine " + name + " does not match this machine (" + differs + "); build it here");
}

inline void refuse_batches(const std::string& name, const Manifest& manifest) {
    if (manifest.batch != 1)
        throw Refused("engine " + name + " takes " + std::to_string(manifest.batch) +
                      " frames at once, this program gives it one; build it with BATCH=1");
}

}  // namespace segment
