#include "visformer_model.hpp"

void bench::run_tf32(char const* only) { run<dvla::basic_cuda<dvla::precision::tf32>>("tf32", only); }
