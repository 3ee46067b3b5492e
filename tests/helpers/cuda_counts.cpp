// Counts the accesses of `cuda_shim.cpp` to given memory as a GPU's warps would make them. The compiler reports each
// (-fsanitize=thread, whose hooks these are); lanes of a warp that are at one access in one turn of the loops around it
// make it together, as they do where they meet again after a branch.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace {

constexpr unsigned WARP = 32, SECTOR = 32;

struct Access {
    std::uintptr_t place, address;
    unsigned size;
};

// The part of the code between two accesses that a lane came back over: a loop.
struct Loop {
    std::uintptr_t head, end;
};

struct Counts {
    unsigned long long accesses = 0, lanes = 0, full = 0, sectors = 0;
};

std::vector<std::vector<Access>> traces;  // of the threads of a block, since the last barrier
std::vector<std::pair<std::uintptr_t, std::uintptr_t>> counted;  // from, to: memory of the device
unsigned thread;
Counts counts;

void note(const void* address, unsigned size, const void* place) {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    for (const auto& [start, end] : counted)
        if (at >= start && at < end) traces[thread].push_back({reinterpret_cast<std::uintptr_t>(place), at, size});
}

std::vector<Loop> loops_of(const std::vector<Access>* lanes) {
    std::map<std::uintptr_t, std::uintptr_t> found;
    for (unsigned lane = 0; lane < WARP; ++lane)
        for (std::size_t i = 1; i < lanes[lane].size(); ++i)
            if (lanes[lane][i].place <= lanes[lane][i - 1].place) {
                auto& end = found[lanes[lane][i].place];
                end = std::max(end, lanes[lane][i - 1].place);
            }
    std::vector<Loop> loops;
    for (const auto& [head, end] : found) loops.push_back({head, end});
    return loops;
}

void count_warp(const std::vector<Access>* lanes) {
    const auto loops = loops_of(lanes);
    std::map<std::vector<std::uintptr_t>, std::pair<unsigned, std::set<std::uintptr_t>>> together;
    for (unsigned lane = 0; lane < WARP; ++lane) {
        std::vector<std::uintptr_t> turns(loops.size() + 1);
        std::uintptr_t last = 0;
        for (const auto& [place, address, size] : lanes[lane]) {
            for (std::size_t i = 0; i < loops.size(); ++i) {
                const bool inside = place >= loops[i].head && place <= loops[i].end;
                const bool was = last >= loops[i].head && last <= loops[i].end;
                if (!inside || !was) turns[i] = 0;
                else if (place <= last && place == loops[i].head) ++turns[i];
            }
            turns.back() = last = place;
            auto& [count, sectors] = together[turns];
            ++count;
            for (auto sector = address / SECTOR; sector <= (address + size - 1) / SECTOR; ++sector) sectors.insert(sector);
        }
    }
    for (const auto& [key, access] : together) {
        ++counts.accesses, counts.lanes += access.first, counts.sectors += access.second.size();
        counts.full += access.first == WARP;
    }
}

}  // namespace

namespace shim {

void before_thread(unsigned index) {
    thread = index;
    if (traces.size() <= index) traces.resize(index + 1);
}

void after_phase() {
    for (std::size_t first = 0; first + WARP <= traces.size(); first += WARP) count_warp(&traces[first]);
    for (auto& trace : traces) trace.clear();
}

}  // namespace shim

extern "C" void count_in(std::uintptr_t start, std::uintptr_t end) { counted.push_back({start, end}); }

extern "C" void take_counts(unsigned long long* out) {
    const unsigned long long taken[] = {counts.accesses, counts.lanes, counts.full, counts.sectors};
    std::copy(std::begin(taken), std::end(taken), out);
    counts = {}, counted.clear();
}

#define HOOKS(SIZE)                                                                                              \
    extern "C" void __tsan_read##SIZE(void* address) { note(address, SIZE, __builtin_return_address(0)); }       \
    extern "C" void __tsan_write##SIZE(void* address) { note(address, SIZE, __builtin_return_address(0)); }      \
    extern "C" void __tsan_unaligned_read##SIZE(void* at) { note(at, SIZE, __builtin_return_address(0)); }       \
    extern "C" void __tsan_unaligned_write##SIZE(void* at) { note(at, SIZE, __builtin_return_address(0)); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
extern "C" void __tsan_read_range(void* at, std::size_t size) { note(at, size, __builtin_return_address(0)); }
extern "C" void __tsan_write_range(void* at, std::size_t size) { note(at, size, __builtin_return_address(0)); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
