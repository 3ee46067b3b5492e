// The rules that many calls share, what tests ask and tell the driver, and what is said at exit.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "state.h"

State& state() {
    static State* only = new State;  // never destroyed: pycuda frees until the very end
    return *only;
}

CUresult refuse(const char* call, const char* why, CUresult code) {
    static const bool traced = std::getenv("IMITATED_CUDA_TRACE");
    if (traced) std::fprintf(stderr, "[imitated CUDA] %s refused: %s (%d)\n", call, why, code);
    return code;
}

void violate(const char* call, const std::string& why) {
    ++state().violations;
    std::fprintf(stderr, "[imitated CUDA] VIOLATION %s: %s\n", call, why.c_str());
}

CUresult entered(const char* call) {
    if (state().opened_by && state().opened_by != getpid()) {
        return refuse(call, "this process was forked", CUDA_ERROR_NOT_INITIALIZED);
    }
    const auto told = state().told.find(call);
    return told == state().told.end() ? CUDA_SUCCESS : told->second;
}

CUresult entered_with_context(const char* call) {
    if (!context_is_current()) {
        violate(call, "no context is current on this thread");  // a leak or worse, whatever the caller makes of it
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    return entered(call);
}

// cuThreadExchangeStreamCaptureMode: a thread may not make such calls while a stream captures that it began itself in
// any but the relaxed mode, or that any thread began in the global one.
static Stream* endangered() {
    for (Stream* stream : state().streams) {
        const Capture& capture = stream->capture;
        if (!capture.active || capture.mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
        const bool ours = capture.thread == std::this_thread::get_id();
        if (ours || capture.mode == CU_STREAM_CAPTURE_MODE_GLOBAL) return stream;
    }
    return nullptr;
}

CUresult entered_safely(const char* call) {
    if (const CUresult code = entered_with_context(call)) return code;
    Stream* stream = endangered();
    if (!stream) return CUDA_SUCCESS;
    stream->capture.invalid = true;
    return refuse(call, "a stream captures", CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

bool inside(const void* start, size_t size, bool pinned) {
    const char* address = static_cast<const char*>(start);
    auto after = state().memory.upper_bound(address);
    if (after == state().memory.begin()) return false;
    const auto& [first, allocation] = *--after;
    return allocation.pinned == pinned && address + size <= first + allocation.size;
}

static bool overlap(const std::vector<Range>& ranges, const char* start, size_t size) {
    for (const Range& range : ranges) {
        if (range.start < start + size && start < range.start + range.size) return true;
    }
    return false;
}

bool used_by_work(const char* start, size_t size) {
    auto streams = state().streams;
    streams.insert(&state().legacy);
    for (const Stream* stream : streams) {
        if (overlap(stream->running, start, size)) return true;
        for (const Work& work : stream->queue) {
            if (overlap(work.uses, start, size)) return true;
        }
    }
    return false;
}

// What tests ask and tell. `kind`: device, pinned, streams, events, graphs, modules or contexts; what was ever made;
// pushed, of contexts on this thread.
static int live(const std::string& kind) {
    int pinned = 0;
    for (const auto& [start, allocation] : state().memory) pinned += allocation.pinned;
    if (kind == "pinned") return pinned;
    if (kind == "device") return static_cast<int>(state().memory.size()) - pinned;
    if (kind == "streams") return static_cast<int>(state().streams.size());
    if (kind == "events") return static_cast<int>(state().events.size());
    if (kind == "graphs") return static_cast<int>(state().graphs.size() + state().executables.size());
    if (kind == "modules") return static_cast<int>(state().modules.size());
    if (kind == "made") return state().made;
    if (kind == "pushed") return contexts_pushed();
    return kind == "contexts" ? state().retained : -1;
}

EXPORTED int imitated_live(const char* kind) {
    Lock lock(state().mutex);
    return live(kind);
}

EXPORTED int imitated_violations() {
    Lock lock(state().mutex);
    return state().violations;
}

// What the calls answer that pycuda links to and no file here defines.
EXPORTED int imitated_refusal(const char* call) {
    Lock lock(state().mutex);
    violate(call, "is not imitated");
    return CUDA_ERROR_NOT_SUPPORTED;
}

// A rule of a library above the driver that was broken.
EXPORTED void imitated_violate(const char* who, const char* why) {
    Lock lock(state().mutex);
    violate(who, why);
}

// Lets `call` answer `code` and do nothing, until it is told to answer 0, or all are by the name of none.
EXPORTED void imitated_fail(const char* call, int code) {
    Lock lock(state().mutex);
    state().told.erase(call);
    if (!*call) state().told.clear();
    if (code) state().told[call] = static_cast<CUresult>(code);
}

// Events and graphs are left on purpose: the calls that give them back were told to fail.
EXPORTED void imitated_forget() {
    Lock lock(state().mutex);
    state().events.clear();
    state().graphs.clear();
    state().executables.clear();
}

// How many bytes are left on the device from now on.
EXPORTED void imitated_leave(size_t bytes) {
    Lock lock(state().mutex);
    state().limit = state().used + bytes;
}

// The names of what ran since it was asked last, one a line, and how many bytes they are; cut to `most`.
EXPORTED size_t imitated_done(char* text, size_t most) {
    Lock lock(state().mutex);
    std::string all;
    for (const std::string& name : state().done) all += name + "\n";
    state().done.clear();
    std::strncpy(text, all.c_str(), most);
    return all.size();
}

__attribute__((destructor)) static void told_at_exit() {
    if (state().opened_by != getpid()) return;
    for (const char* kind : {"device", "pinned", "streams", "events", "graphs", "modules", "contexts"}) {
        if (const int count = live(kind)) std::fprintf(stderr, "[imitated CUDA] LEAK %d %s\n", count, kind);
    }
}
