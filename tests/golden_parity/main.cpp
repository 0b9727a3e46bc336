// golden_parity DIR [--device cuda]: checks every safetensors file in DIR against the library, in double and in float (on a card
// in strict float alone), and prints a line a group of tensors. Exit 0 only if all are within their bounds
// (tests/golden/README.md).
#include <algorithm>
#include <cstdio>
#include <new>

#include "device_cases.hpp"

namespace {

using parity::golden_file;

/// Runs every check, also after one has failed.
bool all_of(std::initializer_list<bool> results) {
  return std::all_of(results.begin(), results.end(), [](bool ok) { return ok; });
}

/// One file in every type that its case has, by what its metadata says it is.
bool check_file(std::string const& name, golden_file const& golden, bool on_cuda) {
  using in_double = parity::device_cases<dvla::cpu, double>;
  using in_float = parity::device_cases<dvla::cpu, float>;
  if (golden.says("Visformer") || golden.says("DVLA-RL episode"))
    return on_cuda ? parity::cuda_network(name, golden)
                   : all_of({in_double::check_network(name, golden), in_float::check_network(name, golden)});
  if (golden.says("gated"))
    return on_cuda ? parity::cuda_block(name, golden)
                   : all_of({in_double::check_block(name, golden), in_float::check_block(name, golden)});
  if (golden.says("Beta"))
    return all_of({parity::check<double>(name, golden, parity::beta<double>), parity::check<float>(name, golden, parity::beta<float>)});
  if (golden.says("schedule")) return parity::check<double>(name, golden, parity::schedule);
  if (golden.says("Pillow")) return parity::check<float>(name, golden, parity::resizing);
  if (golden.says("test episodes")) return parity::check<double>(name, golden, parity::sampler);
  golden.refuse("its case \"", golden.text("case"), "\" is of no known kind");
}

bool check_file(std::filesystem::path const& path, bool on_cuda) {
  golden_file const golden(path);
  bool const within = check_file(path.stem().string(), golden, on_cuda);
  golden.expect_all_compared();
  return within;
}

}  // namespace

int main(int count, char** arguments) {
  bool const on_cuda = count == 4 && std::string_view(arguments[2]) == "--device" && std::string_view(arguments[3]) == "cuda";
  if (count != 2 && !on_cuda) {
    std::fprintf(stderr, "usage: golden_parity DIR [--device cuda]\nChecks every .safetensors file in DIR.\n");
    return 2;
  }
  if (on_cuda && !parity::cuda_is_there()) {
    std::puts("golden_parity: no CUDA device, or a build without CUDA; nothing was checked");
    return 77;
  }
  std::vector<std::filesystem::path> files;
  std::error_code problem;
  for (auto const& entry : std::filesystem::directory_iterator(arguments[1], problem))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  if (problem || files.empty()) {
    std::fprintf(stderr, "golden_parity: no .safetensors file in %s; name the folder that holds them\n", arguments[1]);
    return 2;
  }
  std::sort(files.begin(), files.end());
  std::size_t failed = 0;
  for (auto const& file : files) try {
      if (!check_file(file, on_cuda)) ++failed;
    } catch (std::bad_alloc const&) {
      std::printf("%-32s FAILED: its settings take more memory than there is\n", file.stem().string().c_str());
      ++failed;
    } catch (std::exception const& problem_found) {
      std::printf("%-32s FAILED: %s\n", file.stem().string().c_str(), problem_found.what());
      ++failed;
    }
  std::printf("%zu of %zu files within their bounds\n", files.size() - failed, files.size());
  return failed == 0 ? 0 : 1;
}
