#include "visformer_model.hpp"

void bench::run_bf16(char const* only) { run<dvla::basic_cuda<dvla::precision::bf16>>("bf16", only); }
