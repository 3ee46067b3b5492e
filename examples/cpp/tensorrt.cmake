# `segment` over TensorRT: TENSORRT_ROOT holds include/ and lib/, where they are not the system's.
set(CMAKE_CUDA_STANDARD 17)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES native)
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
find_path(TENSORRT_INCLUDE NvInferRuntime.h HINTS ${TENSORRT_ROOT}/include REQUIRED)
find_library(TENSORRT_LIBRARY nvinfer HINTS ${TENSORRT_ROOT}/lib ${TENSORRT_ROOT}/lib64)

add_library(segment_gpu OBJECT gpu_kernels.cu)  # with segment.cu as it is
target_include_directories(segment_gpu PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/../../runtime/kernels)
target_compile_options(segment_gpu PRIVATE -fmad=false)  # masks depend on it

add_library(segment_over_tensorrt OBJECT main.cpp)
target_compile_definitions(segment_over_tensorrt PRIVATE SEGMENT_TENSORRT)
target_compile_features(segment_over_tensorrt PRIVATE cxx_std_17)
target_compile_options(segment_over_tensorrt PRIVATE -ffp-contract=off -Wall -Wextra)
target_include_directories(segment_over_tensorrt SYSTEM PRIVATE ${TENSORRT_INCLUDE})
target_link_libraries(segment_over_tensorrt PRIVATE CUDA::cudart OpenSSL::Crypto nlohmann_json::nlohmann_json)

if(TENSORRT_LIBRARY)
  add_executable(segment $<TARGET_OBJECTS:segment_gpu> $<TARGET_OBJECTS:segment_over_tensorrt>)
  target_link_libraries(segment PRIVATE ${TENSORRT_LIBRARY} CUDA::cudart OpenSSL::Crypto)
else()
  message(WARNING "libnvinfer is not in TENSORRT_ROOT: the sources are compiled, and no program is linked")
endif()
