// A libcuda.so.1 that runs on the CPU: what a program made of it and has not given back, and the rules of every call.
//
// Its memory is the host's. What a stream is given is done when something waits for it, and not before, so that a wait
// that is missing shows as a wrong mask. What cuda.h refuses is refused with the same error. What cuda.h leaves
// undefined, such as freeing what a stream still uses, is a violation: it is told on stderr, and counted.
#pragma once

// Without it cuda.h makes cuMemAlloc mean cuMemAlloc_v2: here every name is the symbol that is exported.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

struct Range {
    const char* start;
    size_t size;
};

struct Module {
    void* library;
    int (*launch)(const char* name, unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned block_y,
                  void** values);
    // Sizes of a kernel's parameters in order, those of addresses negative; how many, or -1 where there is no such one.
    int (*parameters)(const char* name, int* sizes, int most);
};

struct Function {
    Module* module;
    std::string name;
};

// One entry of a stream: what it does, the memory that it uses, and the module whose code it runs.
struct Work {
    std::string name;
    std::function<void()> run;
    std::vector<Range> uses;
    Module* module = nullptr;
};

struct Capture {
    bool active = false, invalid = false;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    std::thread::id thread;
    std::vector<Work> work;
};

struct Stream {
    bool blocking = true;  // waits for the legacy stream, and that one for it
    std::vector<Work> queue;
    std::vector<Range> running;  // what the work uses that a thread does now
    bool busy = false;
    Capture capture;
};

struct Event {
    bool recorded = false, timed = true;
    bool captured = false;  // recorded last in a capture, and no part of its graph: nobody may ask when it happened
    int pending = 0;  // records that are queued
    double ms = 0;
    Stream* stream = nullptr;  // that it was recorded on last
};

struct Graph {
    std::vector<Work> work;
};

struct Allocation {
    char* block;  // with a band before and after, which nothing may write
    size_t block_size, size;
    bool pinned;
};

struct State {
    std::mutex mutex;  // of all that is here; not held while work runs, which may want Python's own lock
    std::condition_variable idle;
    int opened_by = 0;  // process
    int retained = 0;   // of the primary context
    size_t used = 0, limit = size_t(8) << 30;
    int made = 0;  // allocations, those that were given back too
    std::map<const char*, Allocation> memory;
    std::set<Stream*> streams;
    Stream legacy;
    std::set<Event*> events;
    std::set<Graph*> graphs, executables;
    std::set<Module*> modules;
    std::set<Function*> functions;
    std::vector<std::string> done;  // names of the work that ran, and "wait" for every cuStreamSynchronize
    std::map<std::string, CUresult> told;  // calls that were told to fail
    int violations = 0;
    double last_ms = 0;
};
using Lock = std::unique_lock<std::mutex>;

State& state();

// state.cpp: the rules that many calls share. All of them want the lock.
CUresult refuse(const char* call, const char* why, CUresult code);
void violate(const char* call, const std::string& why);
CUresult entered(const char* call);             // what every call answers first
CUresult entered_with_context(const char* call);
CUresult entered_safely(const char* call);      // of those calls that end a capture of this thread
bool inside(const void* start, size_t size, bool pinned);
bool used_by_work(const char* start, size_t size);
bool context_is_current();
int contexts_pushed();  // on this thread
CUcontext primary_context();  // its handle, of context.cpp

// stream.cpp
Stream* stream_of(CUstream handle);  // or null, where it is none
CUresult enqueue(const char* call, CUstream handle, Work work);
CUresult legacy_refused(const char* call);  // where it would wait for a stream that captures
void finish(Stream& stream, Lock& lock);  // does all that it was given, with the lock released
void finish_for_legacy(Lock& lock);       // what the legacy stream waits for

#define EXPORTED extern "C" __attribute__((visibility("default")))
#define ENTER(CALL)                                    \
    Lock lock(state().mutex);                          \
    if (const CUresult code = entered(#CALL)) return code
#define ENTER_WITH_CONTEXT(CALL)                       \
    Lock lock(state().mutex);                          \
    if (const CUresult code = entered_with_context(#CALL)) return code
#define ENTER_SAFELY(CALL)                             \
    Lock lock(state().mutex);                          \
    if (const CUresult code = entered_safely(#CALL)) return code
