// Modules and launches. An image is what the imitated nvcc made of a .cu file: a shared library of this machine.
#include <dlfcn.h>
#include <elf.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "state.h"

constexpr int MOST_PARAMETERS = 64;
constexpr unsigned MOST_THREADS = 1024, MOST_DEEP = 64, MOST_DOWN = 65535;  // of a block; of a grid down

// dlopen wants a file, and takes one of a name that it knows for the one that it loaded before.
static void* opened(const void* image) {
    const auto* header = static_cast<const Elf64_Ehdr*>(image);
    const size_t size = header->e_shoff + size_t(header->e_shentsize) * header->e_shnum;
    std::string name = std::string(P_tmpdir) + "/imitated-kernels-XXXXXX";
    const int file = mkstemp(name.data());
    if (file < 0) return nullptr;
    const bool whole = write(file, image, size) == static_cast<ssize_t>(size);
    close(file);
    void* library = whole ? dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(name.c_str());
    return library;
}

EXPORTED CUresult cuModuleLoadDataEx(CUmodule* handle, const void* image, unsigned, CUjit_option*, void**) {
    ENTER_SAFELY(cuModuleLoadDataEx);
    if (std::memcmp(image, ELFMAG, SELFMAG)) return refuse("cuModuleLoadDataEx", "no ELF", CUDA_ERROR_INVALID_IMAGE);
    void* library = opened(image);
    if (!library) return refuse("cuModuleLoadDataEx", dlerror(), CUDA_ERROR_NO_BINARY_FOR_GPU);
    auto* module = new Module{library, nullptr, nullptr};
    module->launch = reinterpret_cast<decltype(module->launch)>(dlsym(library, "launch_kernel"));
    module->parameters = reinterpret_cast<decltype(module->parameters)>(dlsym(library, "kernel_parameters"));
    state().modules.insert(module);
    *handle = reinterpret_cast<CUmodule>(module);
    return CUDA_SUCCESS;
}

EXPORTED CUresult cuModuleUnload(CUmodule handle) {
    ENTER_SAFELY(cuModuleUnload);
    auto* module = reinterpret_cast<Module*>(handle);
    if (!state().modules.erase(module)) {
        violate("cuModuleUnload", "of none");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    return CUDA_SUCCESS;  // its code stays loaded: what is queued is found by `run`, not by a crash
}

EXPORTED CUresult cuModuleGetFunction(CUfunction* handle, CUmodule of, const char* name) {
    ENTER_SAFELY(cuModuleGetFunction);
    auto* module = reinterpret_cast<Module*>(of);
    int sizes[MOST_PARAMETERS];
    if (!state().modules.count(module)) return refuse("cuModuleGetFunction", "no module", CUDA_ERROR_INVALID_HANDLE);
    if (module->parameters(name, sizes, MOST_PARAMETERS) < 0) {
        return refuse("cuModuleGetFunction", name, CUDA_ERROR_NOT_FOUND);
    }
    auto* function = new Function{module, name};
    state().functions.insert(function);
    *handle = reinterpret_cast<CUfunction>(function);
    return CUDA_SUCCESS;
}

// Deprecated, and no call of a capture's thread that cuda.h says anything about: held to be unsafe there.
EXPORTED CUresult cuFuncSetBlockShape(CUfunction handle, int, int, int) {
    ENTER_SAFELY(cuFuncSetBlockShape);
    return state().functions.count(reinterpret_cast<Function*>(handle)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

struct Packed {
    const char* bytes = nullptr;
    size_t size = 0;
};

static Packed packed(void** extra) {
    Packed found;
    for (; extra && *extra != CU_LAUNCH_PARAM_END; extra += 2) {
        if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) found.bytes = static_cast<const char*>(extra[1]);
        if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE) found.size = *static_cast<size_t*>(extra[1]);
    }
    return found;
}

// Copies the parameters into `values`, each in its place; the end of them, or 0 where the buffer is too short.
static size_t unpacked(const Packed& buffer, void** parameters, const int* sizes, int count,
                       std::vector<std::string>& values) {
    size_t at = 0;
    for (int i = 0; i < count; ++i) {
        const size_t size = std::abs(sizes[i]);
        at = (at + size - 1) / size * size;
        if (!parameters && at + size > buffer.size) return 0;
        const char* from = parameters ? static_cast<const char*>(parameters[i]) : buffer.bytes + at;
        values.emplace_back(from, size);
        at += size;
    }
    return at;
}

// The allocations that the addresses among the values lie in; a null address is for the kernel to leave alone.
static bool reached(const int* sizes, const std::vector<std::string>& values, std::vector<Range>& uses) {
    for (size_t i = 0; i < values.size(); ++i) {
        const char* address = nullptr;
        if (sizes[i] > 0) continue;
        std::memcpy(&address, values[i].data(), sizeof address);
        if (address && !inside(address, 1, false)) return false;
        if (address) uses.push_back({address, 1});
    }
    return true;
}

EXPORTED CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                 unsigned block_y, unsigned block_z, unsigned, CUstream stream, void** parameters,
                                 void** extra) {
    ENTER_WITH_CONTEXT(cuLaunchKernel);
    auto* function = reinterpret_cast<Function*>(handle);
    if (!state().functions.count(function) || !state().modules.count(function->module)) {
        violate("cuLaunchKernel", "of no function of a loaded module");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (!grid_x || !grid_y || grid_y > MOST_DOWN || grid_z != 1 || block_z != 1 || !block_x || !block_y ||
        block_x * block_y > MOST_THREADS || block_z > MOST_DEEP) {
        return refuse("cuLaunchKernel", "the shape of grid or block", CUDA_ERROR_INVALID_VALUE);
    }
    int sizes[MOST_PARAMETERS];
    const int count = function->module->parameters(function->name.c_str(), sizes, MOST_PARAMETERS);
    std::vector<std::string> values;
    const Packed buffer = packed(extra);
    const size_t end = unpacked(buffer, parameters, sizes, count, values);
    if (!parameters && end != buffer.size) {
        violate("cuLaunchKernel", function->name + " is given parameters of another size");
        return CUDA_ERROR_INVALID_VALUE;
    }
    std::vector<Range> uses;
    if (!reached(sizes, values, uses)) {
        violate("cuLaunchKernel", function->name + " is given an address that is none of the device's");
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    Module* module = function->module;
    const std::string name = function->name;
    const auto run = [=]() mutable {
        std::vector<void*> places;
        for (std::string& value : values) places.push_back(value.data());
        if (!module->launch(name.c_str(), grid_x, grid_y, block_x, block_y, places.data())) return;
        const Lock inner(state().mutex);
        violate(name.c_str(), "some threads of a block ended, and others wait for them");
    };
    return enqueue("cuLaunchKernel", stream, {name, run, uses, module});
}
