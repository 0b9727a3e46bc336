#include "kernels.hpp"

std::vector<repeat::task> repeat::kernels_tf32(std::size_t batch) { return kernel_tasks<precision::tf32>("tf32", batch).take(); }
