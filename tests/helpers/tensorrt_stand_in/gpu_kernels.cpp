// gpu_kernels.cu for this CPU: launches go through the shim under which segment.cu is tested.
#include "../cuda_shim.h"
#include "cuda_runtime_api.h"

void shim::before_thread(unsigned) {}
void shim::after_phase() {}

template <typename... Types>
cudaError_t cudaLaunchKernel(void (*kernel)(Types...), dim3 grid, dim3 block, void** arguments, size_t, cudaStream_t) {
    return shim::launch(kernel, grid, block, arguments) ? cudaSuccess : cudaErrorLaunchFailure;
}

#include "gpu_kernels.cu"
