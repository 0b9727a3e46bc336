// What a run shows while it works: one line that changes on a terminal, a line now and then elsewhere. All on stderr, so
// that stdout carries results alone.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

namespace cli {

/// Shows how far a run is.
class progress_line {
 public:
  progress_line() : terminal_(::isatty(STDERR_FILENO) == 1), begin_(clock::now()), shown_(begin_) {}
  progress_line(progress_line const&) = delete;
  progress_line& operator=(progress_line const&) = delete;
  ~progress_line() { clear(); }

  /// Whether a line is due at this fraction of the run: four times a second on a terminal; every 30 s or 5 % elsewhere.
  [[nodiscard]] bool due(double fraction) const {
    double const since = seconds(shown_);
    if (terminal_) return since > 0.25 || fraction >= 1;
    return since > 30 || (fraction >= next_ && since > 1) || fraction >= 1;
  }

  void show(double fraction, std::string const& text) {
    shown_ = clock::now();
    next_ = fraction + 0.05;
    if (first_ < 0) {
      first_ = fraction;
      begin_ = shown_;
    }
    char head[64];
    std::string left;
    if (fraction > first_ && fraction < 1) left = ", " + duration(seconds(begin_) / (fraction - first_) * (1 - fraction)) + " left";
    std::snprintf(head, sizeof head, "%5.1f %%  ", 100 * fraction);
    if (terminal_)
      std::fprintf(stderr, "\r\033[K%s%s%s", head, text.c_str(), left.c_str());
    else
      std::fprintf(stderr, "%s%s%s\n", head, text.c_str(), left.c_str());
    std::fflush(stderr);
    open_ = terminal_;
  }

  /// A line that stays.
  void note(std::string const& text) {
    clear();
    std::fprintf(stderr, "%s\n", text.c_str());
    std::fflush(stderr);
  }

  void clear() {
    if (open_) std::fputs("\r\033[K", stderr);
    open_ = false;
  }

 private:
  using clock = std::chrono::steady_clock;

  [[nodiscard]] static double seconds(clock::time_point since) {
    return std::chrono::duration<double>(clock::now() - since).count();
  }

  [[nodiscard]] static std::string duration(double s) {
    char text[32];
    if (s < 90)
      std::snprintf(text, sizeof text, "%.0f s", s);
    else if (s < 5400)
      std::snprintf(text, sizeof text, "%.0f min", s / 60);
    else
      std::snprintf(text, sizeof text, "%.1f h", s / 3600);
    return text;
  }

  bool terminal_, open_ = false;
  clock::time_point begin_, shown_;
  double next_ = 0, first_ = -1;
};

/// printf into a string.
template <class... Values>
[[nodiscard]] std::string format(char const* pattern, Values... values) {
  char text[512];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

/// ", 12 % of the time waiting for them": behind a figure of images a second.
[[nodiscard]] inline std::string waiting(double waited, double seconds) {
  return format(", %.0f %% of the time waiting for them", seconds > 0 ? 100 * waited / seconds : 0.0);
}

}  // namespace cli
