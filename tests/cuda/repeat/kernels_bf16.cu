#include "kernels.hpp"

std::vector<repeat::task> repeat::kernels_bf16(std::size_t batch) { return kernel_tasks<precision::bf16>("bf16", batch).take(); }
