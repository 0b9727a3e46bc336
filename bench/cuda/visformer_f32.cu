#include "visformer_model.hpp"

void bench::run_f32(char const* only) { run<dvla::basic_cuda<dvla::precision::f32>>("f32", only); }
