// Capture and graphs, by the rules of cuda.h's chapters on streams and on graphs.
#include "state.h"

EXPORTED CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode) {
    ENTER_WITH_CONTEXT(cuStreamBeginCapture_v2);
    Stream* stream = stream_of(handle);
    if (!stream) {
        violate("cuStreamBeginCapture_v2", "on no stream");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (stream == &state().legacy) {
        return refuse("cuStreamBeginCapture_v2", "the legacy stream", CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    if (stream->capture.active) return refuse("cuStreamBeginCapture_v2", "twice", CUDA_ERROR_ILLEGAL_STATE);
    stream->capture = {};
    stream->capture.active = true;
    stream->capture.mode = mode;
    stream->capture.thread = std::this_thread::get_id();
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
    ENTER_WITH_CONTEXT(cuStreamIsCapturing);
    const Stream* stream = stream_of(handle);
    if (!stream) return refuse("cuStreamIsCapturing", "no stream", CUDA_ERROR_INVALID_HANDLE);
    *status = !stream->capture.active    ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture.invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                        : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    Lock lock(state().mutex);
    if (const CUresult code = entered_with_context("cuStreamEndCapture")) {
        if (Stream* stream = stream_of(handle)) stream->capture = {};  // an end that fails ends it all the same
        return code;
    }
    Stream* stream = stream_of(handle);
    if (!stream || !stream->capture.active) {
        return refuse("cuStreamEndCapture", "nothing captures", CUDA_ERROR_ILLEGAL_STATE);
    }
    Capture& capture = stream->capture;
    if (capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture.thread != std::this_thread::get_id()) {
        return refuse("cuStreamEndCapture", "another thread began it", CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    }
    const Capture ended = std::move(capture);
    capture = {};
    *graph = nullptr;
    if (ended.invalid) return refuse("cuStreamEndCapture", "it is lost", CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    auto* made = new Graph{ended.work};
    state().graphs.insert(made);
    *graph = reinterpret_cast<CUgraph>(made);
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph handle, unsigned long long) {
    ENTER_WITH_CONTEXT(cuGraphInstantiateWithFlags);
    auto* graph = reinterpret_cast<Graph*>(handle);
    if (!state().graphs.count(graph)) {
        return refuse("cuGraphInstantiateWithFlags", "no graph", CUDA_ERROR_INVALID_VALUE);
    }
    auto* made = new Graph(*graph);
    state().executables.insert(made);
    *executable = reinterpret_cast<CUgraphExec>(made);
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuGraphDestroy(CUgraph handle) {
    ENTER(cuGraphDestroy);
    auto* graph = reinterpret_cast<Graph*>(handle);
    if (!state().graphs.erase(graph)) return refuse("cuGraphDestroy", "no graph", CUDA_ERROR_INVALID_VALUE);
    delete graph;
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuGraphExecDestroy(CUgraphExec handle) {
    ENTER_WITH_CONTEXT(cuGraphExecDestroy);
    auto* graph = reinterpret_cast<Graph*>(handle);
    if (!state().executables.erase(graph)) {
        violate("cuGraphExecDestroy", "of none");
        return CUDA_ERROR_INVALID_VALUE;
    }
    delete graph;
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream) {
    ENTER_WITH_CONTEXT(cuGraphLaunch);
    auto* graph = reinterpret_cast<Graph*>(handle);
    if (!state().executables.count(graph)) {
        violate("cuGraphLaunch", "of none");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    state().done.push_back("graph");
    for (const Work& work : graph->work) {
        for (const Range& range : work.uses) {
            if (inside(range.start, range.size, false) || inside(range.start, range.size, true)) continue;
            violate("cuGraphLaunch", work.name + " uses memory that was freed");
            return CUDA_ERROR_ILLEGAL_ADDRESS;
        }
        if (const CUresult code = enqueue("cuGraphLaunch", stream, work)) return code;
    }
    return CUDA_SUCCESS;
}
