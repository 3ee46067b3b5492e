// Pictures without a library: binary PPM in, binary PGM out, eight bits each (netpbm's P6 and P5).
#pragma once

#include <cctype>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "manifest.hpp"

namespace segment {

struct Picture {
    int height = 0, width = 0;
    std::vector<uint8_t> pixels;  // (height, width, 3) RGB
};

// A number of a PPM's header, from `at` on, which moves behind it; blanks and comments come before it.
inline int header_number(const std::string& bytes, size_t& at) {
    while (at < bytes.size() && (std::isspace(static_cast<unsigned char>(bytes[at])) || bytes[at] == '#'))
        at = bytes[at] == '#' ? std::min(bytes.size(), bytes.find('\n', at)) : at + 1;
    int number = 0;
    const size_t first = at;
    for (; at < bytes.size() && std::isdigit(static_cast<unsigned char>(bytes[at])) && number < 100000; ++at)
        number = number * 10 + (bytes[at] - '0');
    return at == first ? -1 : number;
}

inline Picture read_picture(const std::filesystem::path& path) {
    const std::string bytes = read_file(path);
    size_t at = 2;
    const int width = header_number(bytes, at), height = header_number(bytes, at), most = header_number(bytes, at);
    if (bytes.compare(0, 2, "P6") != 0 || width < 1 || height < 1 || width > 65535 || height > 65535 || most != 255)
        throw Refused(path.string() + " is no binary PPM of eight bits (P6, 255)");
    const size_t size = size_t(height) * width * 3;
    if (bytes.size() < at + 1 + size) throw Refused(path.string() + " is cut off: fewer pixels than its header says");
    return {height, width, std::vector<uint8_t>(bytes.begin() + at + 1, bytes.begin() + at + 1 + size)};
}

inline std::string pgm(const std::vector<uint8_t>& mask, int height, int width) {
    std::string bytes = "P5\n" + std::to_string(width) + " " + std::to_string(height) + "\n255\n";
    return bytes.append(mask.begin(), mask.end());
}

}  // namespace segment
