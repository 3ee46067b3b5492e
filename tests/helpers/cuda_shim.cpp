// segment.cu as a library for the CPU: `launch_kernel` stands for cuLaunchKernel.
#include "cuda_shim.h"

#include SEGMENT_CU

#define TRY(KERNEL)                                  \
    if (std::strcmp(name, #KERNEL) == 0) {           \
        launch(&KERNEL, grid, block, arguments);     \
        return 0;                                    \
    }

extern "C" int launch_kernel(const char* name, unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned block_y,
                             void** arguments) {
    const dim3 grid{grid_x, grid_y, 1}, block{block_x, block_y, 1};
    TRY(resize_normalize_fp16)
    TRY(resize_normalize_fp32)
    TRY(coarse_winner_fp16)
    TRY(coarse_winner_fp32)
    TRY(upsample_argmax_fp16)
    TRY(upsample_argmax_fp32)
    return 1;
}
