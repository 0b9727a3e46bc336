// What a fuzz target is: a function of any bytes, and a few inputs to begin with. Two drivers share it: libfuzzer_main.cpp for
// libFuzzer (scripts/fuzz.sh), replay_main.cpp for the ordinary tests.
#pragma once

#include <ctime>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <dvla/core/error.hpp>

namespace dvla_fuzz {

/// Gives the bytes to what is tested. A dvla::error is an answer like another; any other exception is a finding. Each target has one.
void try_input(std::string_view bytes);

/// Inputs from which others are made.
std::vector<std::string> seeds();

/// Ends the program where a promise of the library does not hold.
inline void demand(bool held, char const* promise) {
  if (held) return;
  std::fprintf(stderr, "fuzz: a promise does not hold: %s\n", promise);
  std::abort();
}

/// Seconds of processor time of this thread, which a busy machine does not lengthen.
inline double thread_seconds() {
  std::timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// An input as the drivers run it; one that takes more than a second is a finding.
inline void run_input(std::string_view bytes) {
  double const began = thread_seconds();
  try {
    try_input(bytes);
  } catch (dvla::error const& problem) {
    demand(problem.what()[0] != '\0', "an error has a message");
  }
  demand(thread_seconds() - began < 1, "an input takes at most a second of processor time");
}

}  // namespace dvla_fuzz
