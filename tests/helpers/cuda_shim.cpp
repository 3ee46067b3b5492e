// segment.cu as a library for the CPU: `launch_kernel` stands for cuLaunchKernel.
#include "cuda_shim.h"

#include SEGMENT_CU

#ifndef COUNTED
void shim::before_thread(unsigned) {}
void shim::after_phase() {}
#endif

enum Answer { RAN, UNKNOWN_KERNEL, DIVERGENT_BARRIER };

#define TRY(KERNEL) \
    if (std::strcmp(name, #KERNEL) == 0) return shim::launch(&KERNEL, grid, block, arguments) ? RAN : DIVERGENT_BARRIER;
#define TRY_BOTH(KERNEL) TRY(KERNEL##_fp16) TRY(KERNEL##_fp32)

extern "C" int launch_kernel(const char* name, unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned block_y,
                             void** arguments) {
    const dim3 grid{grid_x, grid_y, 1}, block{block_x, block_y, 1};
    TRY_BOTH(resize_normalize)
    TRY_BOTH(coarse_winner)
    TRY_BOTH(upsample_argmax)
#ifndef PLANAR_ALONE  // a revision of segment.cu from before there were other layouts
    TRY_BOTH(resize_normalize_last)
    TRY_BOTH(coarse_winner_last)
    TRY_BOTH(upsample_argmax_last)
#ifndef MASKS_ALONE  // from before there were confidences
    TRY_BOTH(confidence)
    TRY_BOTH(confidence_last)
#endif
#endif
    return UNKNOWN_KERNEL;
}
