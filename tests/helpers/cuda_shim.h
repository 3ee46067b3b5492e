// Lets a C++ compiler build a .cu file without CUDA, and run it as CUDA would: the threads of a block are fibers, each
// runs to its next barrier, and none goes on before all have come to it. What a barrier is missing for is then wrong.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#define __global__
#ifdef COUNTED
#define __device__ __attribute__((always_inline))  // so that the order of the source is that of the code
#else
#define __device__
#endif
#define __shared__ static  // one block runs at a time
#define __launch_bounds__(...)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

using std::fabs;
using std::min;
inline float fmaxf(float a, float b) { return a > b ? a : b; }

struct __half {
    _Float16 value;
};
inline float __half2float(__half half) { return (float)half.value; }
inline __half __float2half_rn(float value) { return {(_Float16)value}; }
inline int atomicAdd(int* place, int value) { return (*place += value) - value; }

namespace shim {

// Told where a thread has come to; nothing here, `cuda_counts.cpp` counts by it.
void before_thread(unsigned thread);
void after_phase();

enum class State { ready, waiting, done };

// A fiber is started once and takes block after block; it goes on by _longjmp, which makes no call of the system.
struct Fiber {
    jmp_buf at;
    std::unique_ptr<char[]> stack{new char[STACK]};
    State state = State::done;
    bool started = false;
    static constexpr std::size_t STACK = 64 << 10;
};

static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static unsigned running;
static void (*entry)(void*);
static void* given;
static int any_of_phase, any_of_last;

static void pause(State state) {
    fibers[running].state = state;
    if (!_setjmp(fibers[running].at)) _longjmp(scheduler, 1);
}

static void begin() {
    for (;;) {
        entry(given);
        pause(State::done);
    }
}

static void start(Fiber& fiber) {
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = Fiber::STACK;
    context.uc_link = nullptr;
    makecontext(&context, begin, 0);
    fiber.started = true;
    setcontext(&context);
}

// The thread that is `running`, to its next barrier or its end.
static void go_on() {
    if (_setjmp(scheduler)) return;
    Fiber& fiber = fibers[running];
    if (fiber.started) _longjmp(fiber.at, 1);
    start(fiber);
}

static int wait_for_all(int value) {
    any_of_phase |= value;
    pause(State::waiting);
    return any_of_last;
}

// One block to its end; false where some threads ended and others wait for them.
static bool run_block(dim3 block) {
    const unsigned threads = block.x * block.y;
    if (fibers.size() < threads) fibers.resize(threads);
    for (unsigned left = threads; left;) {
        any_of_phase = 0;
        for (running = 0; running < threads; ++running) {
            threadIdx = {running % block.x, running / block.x, 0};
            before_thread(running);
            go_on();
        }
        after_phase();
        left = 0;
        for (unsigned i = 0; i < threads; ++i)
            if (fibers[i].state == State::waiting) fibers[i].state = State::ready, ++left;
        if (left && left != threads) return fibers.clear(), false;
        any_of_last = any_of_phase;
    }
    return true;
}

// As cuLaunchKernel: `arguments` points at the value of each argument, in order.
template <typename... Types, std::size_t... Index>
void call(void (*kernel)(Types...), void** arguments, std::index_sequence<Index...>) {
    kernel(*static_cast<Types*>(arguments[Index])...);
}

template <typename... Types>
bool launch(void (*kernel)(Types...), dim3 grid, dim3 block, void** arguments) {
    static std::mutex one_at_a_time;
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    using Bound = std::pair<void (*)(Types...), void**>;
    Bound bound{kernel, arguments};
    entry = [](void* both) {
        call(static_cast<Bound*>(both)->first, static_cast<Bound*>(both)->second, std::index_sequence_for<Types...>());
    };
    given = &bound, gridDim = grid, blockDim = block;
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
            if (!run_block(block)) return false;
    return true;
}

}  // namespace shim

inline void __syncthreads() { shim::wait_for_all(0); }
inline int __syncthreads_or(int value) { return shim::wait_for_all(value); }
