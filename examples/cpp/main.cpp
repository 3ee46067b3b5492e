// segment ENGINE IMAGE... -o DIR: the classes of PPM pictures as PGM, by an engine of this project: OpenVINO's, or
// TensorRT's where it is compiled with SEGMENT_TENSORRT.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <set>

#include "pictures.hpp"
#ifdef SEGMENT_TENSORRT
#include "tensorrt_engine.hpp"
#else
#include "openvino_engine.hpp"
#endif

namespace fs = std::filesystem;

constexpr const char* USAGE =
    "usage: segment ENGINE IMAGE... -o DIR [--threads N] [--rounds N]\n"
    "  ENGINE        with its manifest beside it\n"
    "  IMAGE         binary PPM; DIR/name_ppm_ids.pgm has the class of every pixel\n"
    "  --threads N   of the CPU (default: as many as OpenVINO chooses)\n"
    "  --rounds N    segment each picture N times and tell the median on standard error (default: 1)\n";

struct Options {
    std::vector<fs::path> paths;  // the engine, then pictures
    fs::path folder;
    int threads = 0, rounds = 1;
    bool right = true;
};

static int number(const std::string& text) {
    return !text.empty() && text.size() < 5 && text.find_first_not_of("0123456789") == std::string::npos
               ? std::stoi(text)
               : 0;
}

static Options parsed(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
        if (word == "-o")
            options.folder = value, ++i;
        else if (word == "--threads")
            options.threads = number(value), options.right &= options.threads > 0, ++i;
        else if (word == "--rounds")
            options.rounds = number(value), options.right &= options.rounds > 0, ++i;
        else
            options.right &= word.empty() || word[0] != '-', options.paths.push_back(word);
    }
    options.right &= options.paths.size() > 1 && !options.folder.empty();
    return options;
}

// a/street.ppm -> DIR/street_ppm_ids.pgm
static fs::path mask_path(const fs::path& folder, const fs::path& picture) {
    std::string kind = picture.extension().string();
    std::replace(kind.begin(), kind.end(), '.', '_');
    return folder / (picture.stem().string() + kind + "_ids.pgm");
}

static void segment_file(segment::Engine& engine, const fs::path& path, const fs::path& out, int rounds) {
    const segment::Picture picture = segment::read_picture(path);
    std::vector<uint8_t> mask(size_t(picture.height) * picture.width);
    std::vector<double> times_ms;
    for (int i = 0; i < rounds; ++i) {
        const auto start = std::chrono::steady_clock::now();
        engine.segment(picture.pixels.data(), picture.height, picture.width, mask.data());
        times_ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    segment::write_file(out, segment::pgm(mask, picture.height, picture.width));
    std::cout << out.string() << std::endl;
    std::sort(times_ms.begin(), times_ms.end());
    if (rounds > 1) std::fprintf(stderr, "%s: %.2f ms, median of %d\n", path.c_str(), times_ms[rounds / 2], rounds);
}

static int run(const Options& options) {
    std::set<fs::path> outs;
    for (size_t i = 1; i < options.paths.size(); ++i)
        if (!outs.insert(mask_path(options.folder, options.paths[i])).second)
            throw segment::Refused("two pictures would be written to " +
                                   mask_path(options.folder, options.paths[i]).string());
    segment::Engine engine(options.paths[0], options.threads);
    fs::create_directories(options.folder);
    int failed = 0;
    for (size_t i = 1; i < options.paths.size(); ++i) {
        try {
            segment_file(engine, options.paths[i], mask_path(options.folder, options.paths[i]), options.rounds);
        } catch (const segment::Refused& error) {  // of one picture: the others go on
            std::cerr << "error: " << error.what() << "\n", ++failed;
        }
    }
    return failed ? 1 : 0;
}

int main(int argc, char** argv) {
    const Options options = parsed(argc, argv);
    if (!options.right) return std::cerr << USAGE, 2;
    try {
        return run(options);
    } catch (const std::exception& error) {
        const std::string text = error.what();  // a library's has its reason in the last line
        const size_t last = text.find_last_not_of('\n'), line = text.rfind('\n', last);
        std::cerr << "error: " << text.substr(line + 1, last - line) << "\n";
        return 1;
    }
}
