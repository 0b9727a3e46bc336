// golden_parity DIR: checks every safetensors file in DIR against the library, in double and in float, and prints a line a
// group of tensors. Exit 0 only if all are within their bounds (tests/golden/README.md).
#include <algorithm>
#include <cstdio>
#include <new>

#include "cases.hpp"

namespace {

using parity::golden_file;
using parity::report;

template <class T>
bool check(std::string const& name, golden_file const& golden, void (*run)(report&, golden_file const&)) {
  report found(name, parity::type_name<T>);
  run(found, golden);
  return found.print();
}

template <class T>
void network(report& found, golden_file const& golden) {
  std::size_t const image = golden.count("image");
  bool const training = golden.says("train mode") || golden.says("training mode");
  golden.require(training != (golden.says("eval mode") || golden.says("evaluation mode")), "its case must be in either eval mode or ",
               "train mode");
  golden.require(image == 84 || image == 224, "images of ", image, " are not compiled into this program; 84 and 224 are");
  if (golden.says("episode")) (image == 84 ? parity::episode_84<T> : parity::episode_224<T>)(found, golden, training);
  else (image == 84 ? parity::visformer_84<T> : parity::visformer_224<T>)(found, golden, training);
}

template <class Double, class Float>
bool check_both(std::string const& name, golden_file const& golden, Double in_double, Float in_float) {
  bool const first = check<double>(name, golden, in_double);
  return check<float>(name, golden, in_float) && first;
}

/// One file in every type that its case has, by what its metadata says it is.
bool check_file(std::string const& name, golden_file const& golden) {
  if (golden.says("Visformer") || golden.says("DVLA-RL episode")) return check_both(name, golden, network<double>, network<float>);
  if (golden.says("gated")) return check_both(name, golden, parity::gated_attention<double>, parity::gated_attention<float>);
  if (golden.says("Beta")) return check_both(name, golden, parity::beta<double>, parity::beta<float>);
  if (golden.says("schedule")) return check<double>(name, golden, parity::schedule);
  if (golden.says("Pillow")) return check<float>(name, golden, parity::resizing);
  if (golden.says("test episodes")) return check<double>(name, golden, parity::sampler);
  golden.refuse("its case \"", golden.text("case"), "\" is of no known kind");
}

bool check_file(std::filesystem::path const& path) {
  golden_file const golden(path);
  bool const within = check_file(path.stem().string(), golden);
  golden.expect_all_compared();
  return within;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: golden_parity DIR\nChecks every .safetensors file in DIR.\n");
    return 2;
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
      if (!check_file(file)) ++failed;
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
