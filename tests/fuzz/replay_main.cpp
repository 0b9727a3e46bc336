// A target without libFuzzer: its seeds and mutations of them, the same ones in every run; or the files that are named, such as a
// finding that is to be looked at in a debugger. What went wrong ends the program; --tell names each mutation before it is run.
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>

#include <dvla/core/philox.hpp>

#include "fuzz_target.hpp"

namespace {

using dvla::random_stream;

std::size_t below(random_stream& random, std::size_t bound) {
  return static_cast<std::size_t>(random.uniform(0, static_cast<double>(bound)));
}

/// One change: a bit, a byte, a number at its limits, or a part cut out, repeated or taken from another seed.
void change(std::string& bytes, std::string const& other, random_stream& random) {
  std::size_t const at = below(random, bytes.size() + 1), length = 1 + below(random, 16), kind = below(random, 7);
  constexpr char edges[] = {0, 1, '\x7f', '\x80', '\xff', '"', '{', '[', '&', '\n', ' '};
  if (kind == 0 && at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(random, 8)));
  if (kind == 1 && at < bytes.size()) bytes[at] = edges[below(random, sizeof edges)];
  if (kind == 2) bytes.replace(at, length, std::string(length, below(random, 2) == 0 ? '\0' : '\xff'));
  if (kind == 3) bytes.erase(at, length);
  if (kind == 4) bytes.insert(at, bytes.substr(at, length));
  if (kind == 5) bytes.insert(at, other.substr(below(random, other.size() + 1), length));
  if (kind == 6) bytes.resize(at);
}

void mutate(std::size_t count, bool tell) {
  auto const seeds = dvla_fuzz::seeds();
  for (auto const& seed : seeds) dvla_fuzz::run_input(seed);
  for (std::size_t i = 0; i < count; ++i) {
    random_stream random(1, dvla::draw::test, 0, i);
    std::string bytes = seeds[below(random, seeds.size())];
    if (tell) std::cerr << "mutation " << i << std::endl;
    for (std::size_t changes = 1 + below(random, 4); changes > 0; --changes) change(bytes, seeds[below(random, seeds.size())], random);
    dvla_fuzz::run_input(bytes);
  }
  std::cout << seeds.size() << " seeds and " << count << " mutations: no finding\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> const arguments(argv + 1, argv + argc);
  bool const tell = arguments == std::vector<std::string>{"--tell"};
  if (arguments.empty() || tell) return mutate(20000, tell), 0;
  for (auto const& path : arguments) {
    std::ifstream file(path, std::ios::binary);
    if (!file.good()) return std::cerr << path << " cannot be read\n", 2;
    dvla_fuzz::run_input(std::string(std::istreambuf_iterator<char>(file), {}));
    std::cout << path << ": no finding\n";
  }
}
