// A .cu file as the module that module.cpp loads: SOURCE is the file, KERNELS a file with a line KERNEL(name) for each.
#include "../cuda_shim.h"

#include SOURCE

#include <type_traits>

namespace shim {  // what the shim tells those who count; nobody does here
void before_thread(unsigned) {}
void after_phase() {}
}  // namespace shim
using namespace shim;

template <typename... Types>
static int sizes_of(void (*)(Types...), int* sizes, int most) {
    const int all[] = {(std::is_pointer_v<Types> ? -1 : 1) * int(sizeof(Types))...};
    for (int i = 0; i < int(sizeof...(Types)) && i < most; ++i) sizes[i] = all[i];
    return sizeof...(Types);
}

extern "C" int kernel_parameters(const char* name, int* sizes, int most) {
#define KERNEL(NAME) \
    if (std::strcmp(name, #NAME) == 0) return sizes_of(&NAME, sizes, most);
#include KERNELS
#undef KERNEL
    return -1;
}

extern "C" int launch_kernel(const char* name, unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned block_y,
                             void** values) {
    const dim3 grid{grid_x, grid_y, 1}, block{block_x, block_y, 1};
#define KERNEL(NAME) \
    if (std::strcmp(name, #NAME) == 0) return launch(&NAME, grid, block, values) ? 0 : 2;
#include KERNELS
#undef KERNEL
    return 1;
}
