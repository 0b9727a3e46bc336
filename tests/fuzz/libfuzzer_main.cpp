// A target under libFuzzer. With --seeds=FOLDER the target's seeds are written into an existing folder instead.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "fuzz_target.hpp"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view option = "--seeds=";
  for (int i = 1; i < *argc; ++i) {
    std::string_view const argument = (*argv)[i];
    if (!argument.starts_with(option)) continue;
    std::filesystem::path const folder = argument.substr(option.size());
    std::size_t count = 0;
    for (auto const& seed : dvla_fuzz::seeds()) std::ofstream(folder / ("seed_" + std::to_string(count++)), std::ios::binary) << seed;
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  dvla_fuzz::run_input({reinterpret_cast<char const*>(data), size});
  return 0;
}
