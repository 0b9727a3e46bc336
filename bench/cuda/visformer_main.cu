// visformer_cuda [PRECISION [NAME]]: median times on a card, of all precisions or one, of all rows or those whose name contains
// NAME.
#include "visformer_model.hpp"

int main(int count, char** words) {
  char const* const precision = count > 1 ? words[1] : "";
  char const* const only = count > 2 ? words[2] : "";
  try {
    if (std::strstr("bf16", precision) != nullptr) bench::run_bf16(only);
    if (std::strstr("tf32", precision) != nullptr) bench::run_tf32(only);
    if (std::strcmp("f32", precision) == 0 || *precision == '\0') bench::run_f32(only);
  } catch (dvla::error const& problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 1;
  }
}
