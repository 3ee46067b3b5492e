// Streams: work is queued, and done when something waits for it. Events: moments on them.
#include <algorithm>
#include <chrono>

#include "state.h"

static std::mutex one_kernel_at_a_time;  // the shim keeps threadIdx and its like once for the process

Stream* stream_of(CUstream handle) {
    if (!handle || handle == CU_STREAM_LEGACY) return &state().legacy;
    auto* stream = reinterpret_cast<Stream*>(handle);
    return state().streams.count(stream) ? stream : nullptr;
}

static CUresult no_stream(const char* call) {
    violate(call, "on no stream");
    return CUDA_ERROR_INVALID_HANDLE;
}

static CUresult implicit(const char* call, Stream* stream) {
    stream->capture.invalid = true;
    return refuse(call, "the legacy stream waits for a stream that captures", CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
}

CUresult legacy_refused(const char* call) {
    for (Stream* other : state().streams) {
        if (other->blocking && other->capture.active) return implicit(call, other);
    }
    return CUDA_SUCCESS;
}

CUresult enqueue(const char* call, CUstream handle, Work work) {
    Stream* stream = stream_of(handle);
    if (!stream) return no_stream(call);
    Capture& capture = stream->capture;
    if (capture.active) {
        if (capture.invalid) return refuse(call, "the capture is lost", CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        capture.work.push_back(std::move(work));
        return CUDA_SUCCESS;
    }
    if (stream == &state().legacy) {
        if (const CUresult code = legacy_refused(call)) return code;
    }
    stream->queue.push_back(std::move(work));
    return CUDA_SUCCESS;
}

static void run(const Work& work, Lock& lock) {
    if (work.module && !state().modules.count(work.module)) {
        violate(work.name.c_str(), "its module was unloaded before it ran");
        return;
    }
    lock.unlock();
    if (work.module) {
        const std::lock_guard<std::mutex> alone(one_kernel_at_a_time);
        work.run();
    } else {
        work.run();
    }
    lock.lock();
    state().done.push_back(work.name);
}

void finish(Stream& stream, Lock& lock) {
    Stream* const key = &stream;
    const auto there = [key] { return key == &state().legacy || state().streams.count(key); };
    state().idle.wait(lock, [&] { return !there() || !key->busy; });
    if (!there()) return;
    key->busy = true;
    while (!key->queue.empty()) {
        const Work work = std::move(key->queue.front());
        key->queue.erase(key->queue.begin());
        key->running = work.uses;
        run(work, lock);
        key->running.clear();
    }
    key->busy = false;
    state().idle.notify_all();
}

void finish_for_legacy(Lock& lock) {
    const auto streams = state().streams;
    for (Stream* stream : streams) {
        if (state().streams.count(stream) && stream->blocking && !stream->capture.active) finish(*stream, lock);
    }
    finish(state().legacy, lock);
}

EXPORTED CUresult cuStreamCreate(CUstream* handle, unsigned flags) {
    ENTER_WITH_CONTEXT(cuStreamCreate);
    auto* stream = new Stream;
    stream->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    state().streams.insert(stream);
    *handle = reinterpret_cast<CUstream>(stream);
    return CUDA_SUCCESS;
}

// The driver lets what is queued run on; here it runs at once, since nothing will wait for it any more.
EXPORTED CUresult cuStreamDestroy_v2(CUstream handle) {
    ENTER_WITH_CONTEXT(cuStreamDestroy_v2);
    Stream* stream = stream_of(handle);
    if (!stream || stream == &state().legacy) return no_stream("cuStreamDestroy_v2");
    if (stream->capture.active) violate("cuStreamDestroy_v2", "the stream captures");
    finish(*stream, lock);
    state().streams.erase(stream);
    delete stream;
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuStreamSynchronize(CUstream handle) {
    ENTER_WITH_CONTEXT(cuStreamSynchronize);
    Stream* stream = stream_of(handle);
    if (!stream) return no_stream("cuStreamSynchronize");
    if (stream->capture.active) {
        stream->capture.invalid = true;
        return refuse("cuStreamSynchronize", "the stream captures", CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    if (stream == &state().legacy) finish_for_legacy(lock);
    if (stream != &state().legacy && stream->blocking) finish(state().legacy, lock);
    finish(*stream, lock);
    state().done.push_back("wait");
    return CUDA_SUCCESS;
}

// Work is done when something waits for it: a program that only asks would ask for ever.
EXPORTED CUresult cuStreamQuery(CUstream handle) {
    ENTER_WITH_CONTEXT(cuStreamQuery);
    Stream* stream = stream_of(handle);
    if (!stream) return no_stream("cuStreamQuery");
    if (stream->capture.active) {
        stream->capture.invalid = true;
        return refuse("cuStreamQuery", "the stream captures", CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    return stream->queue.empty() && !stream->busy ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

EXPORTED CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
    ENTER_WITH_CONTEXT(cuLaunchHostFunc);
    return enqueue("cuLaunchHostFunc", handle, {"host", [=] { function(data); }, {}});
}

// As cuLaunchHostFunc, for what a library would run on the device: named, with the memory that it reads and writes.
EXPORTED CUresult imitated_launch(CUstream handle, const char* name, CUhostFn function, void* data, const Range* uses,
                                  int count) {
    ENTER_WITH_CONTEXT(imitated_launch);
    const std::vector<Range> ranges(uses, uses + count);
    for (const Range& range : ranges) {
        if (!inside(range.start, range.size, false)) {
            violate(name, "memory that is none of the device's");
            return CUDA_ERROR_ILLEGAL_ADDRESS;
        }
    }
    return enqueue("imitated_launch", handle, {name, [=] { function(data); }, ranges});
}

static Event* event_of(CUevent handle) {
    auto* event = reinterpret_cast<Event*>(handle);
    return state().events.count(event) ? event : nullptr;
}

static CUresult no_event(const char* call) {
    violate(call, "of no event");
    return CUDA_ERROR_INVALID_HANDLE;
}

static double now_ms() {
    const std::chrono::duration<double, std::milli> since = std::chrono::steady_clock::now().time_since_epoch();
    return state().last_ms = std::max(since.count(), state().last_ms + 1e-3);  // no two events at one moment
}

static void happen(Event* event, bool queued) {
    const Lock lock(state().mutex);
    if (!event_of(reinterpret_cast<CUevent>(event))) return violate("event", "destroyed before it happened");
    event->recorded = true;
    event->ms = now_ms();
    event->pending -= queued;
}

EXPORTED CUresult cuEventCreate(CUevent* handle, unsigned flags) {
    ENTER_WITH_CONTEXT(cuEventCreate);
    auto* event = new Event;
    event->timed = !(flags & CU_EVENT_DISABLE_TIMING);
    state().events.insert(event);
    *handle = reinterpret_cast<CUevent>(event);
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuEventDestroy_v2(CUevent handle) {
    ENTER_WITH_CONTEXT(cuEventDestroy_v2);
    Event* event = event_of(handle);
    if (!event) return no_event("cuEventDestroy_v2");
    state().events.erase(event);  // and not deleted: what is queued may still name it
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuEventRecordWithFlags(CUevent handle, CUstream on, unsigned flags) {
    ENTER_WITH_CONTEXT(cuEventRecordWithFlags);
    Event* event = event_of(handle);
    Stream* stream = stream_of(on);
    if (!event) return no_event("cuEventRecordWithFlags");
    if (!stream) return no_stream("cuEventRecordWithFlags");
    const bool external = flags & CU_EVENT_RECORD_EXTERNAL, captured = stream->capture.active;
    if (external && !captured) return refuse("cuEventRecordWithFlags", "not captured", CUDA_ERROR_INVALID_VALUE);
    event->captured = captured && !external;
    if (event->captured) return stream->capture.invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
    event->stream = stream;
    event->pending += !captured;
    return enqueue("cuEventRecordWithFlags", on, {"event", [=] { happen(event, !captured); }, {}});
}

EXPORTED CUresult cuEventRecord(CUevent handle, CUstream on) {
    return cuEventRecordWithFlags(handle, on, CU_EVENT_RECORD_DEFAULT);
}

static CUresult elapsed(const char* call, float* ms, CUevent from, CUevent to) {
    const Event *begin = event_of(from), *end = event_of(to);
    if (!begin || !end) return no_event(call);
    if (begin->captured || end->captured) return refuse(call, "recorded in a capture", CUDA_ERROR_CAPTURED_EVENT);
    if (!begin->timed || !end->timed || !(begin->recorded || begin->pending) || !(end->recorded || end->pending)) {
        return refuse(call, "never recorded, or without a time", CUDA_ERROR_INVALID_HANDLE);
    }
    if (begin->pending || end->pending) return refuse(call, "has not happened", CUDA_ERROR_NOT_READY);
    *ms = static_cast<float>(end->ms - begin->ms);
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuEventElapsedTime(float* ms, CUevent from, CUevent to) {
    ENTER_WITH_CONTEXT(cuEventElapsedTime);
    return elapsed("cuEventElapsedTime", ms, from, to);
}

EXPORTED CUresult cuEventElapsedTime_v2(float* ms, CUevent from, CUevent to) {
    ENTER_WITH_CONTEXT(cuEventElapsedTime_v2);
    return elapsed("cuEventElapsedTime_v2", ms, from, to);
}

EXPORTED CUresult cuEventSynchronize(CUevent handle) {
    ENTER_SAFELY(cuEventSynchronize);
    Event* event = event_of(handle);
    if (!event) return no_event("cuEventSynchronize");
    Stream* stream = event->stream;
    if (event->pending && stream && stream_of(reinterpret_cast<CUstream>(stream))) finish(*stream, lock);
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuEventQuery(CUevent handle) {
    ENTER_SAFELY(cuEventQuery);
    Event* event = event_of(handle);
    if (!event) return no_event("cuEventQuery");
    return event->pending ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

// What comes on the stream waits until the event's stream has come to it; another's capture is not joined here.
EXPORTED CUresult cuStreamWaitEvent(CUstream handle, CUevent awaited, unsigned) {
    ENTER_WITH_CONTEXT(cuStreamWaitEvent);
    Event* event = event_of(awaited);
    Stream* other = event ? event->stream : nullptr;
    if (!event) return no_event("cuStreamWaitEvent");
    // What is on one stream is in order without it.
    if (!event->pending || other == stream_of(handle)) return stream_of(handle) ? CUDA_SUCCESS : no_stream("cuStreamWaitEvent");
    const auto run = [=] {
        Lock inner(state().mutex);
        if (other == &state().legacy || state().streams.count(other)) finish(*other, inner);
    };
    return enqueue("cuStreamWaitEvent", handle, {"await", run, {}});
}
