// What the commands share: opening data and semantics, the configuration in checkpoints, continuing a run.
#pragma once

#include <csignal>
#include <memory>

#include <dvla/core/thread_pool.hpp>
#include <dvla/data/image_source.hpp>
#include <dvla/data/pipeline.hpp>
#include <dvla/io/checkpoint.hpp>
#include <dvla/semantics/bank_transform.hpp>

#include "console.hpp"
#include "options.hpp"

namespace cli {

using nlohmann::json;

/// A split of the data set; decoded once where memory is wanted and the host is known to be what prepares the images.
[[nodiscard]] inline std::unique_ptr<dvla::image_source> open_images(data_options const& data, std::string const& split,
                                                                     dvla::executor* pool, bool host_prepares) {
  bool const keep = data.in_memory && host_prepares;
  return std::make_unique<dvla::image_source>(
      dvla::open_split(data.root, split), keep ? dvla::image_storage::in_memory : dvla::image_storage::on_demand, pool);
}

/// The device of a command: the CPU with the threads of the pool, or a card.
template <class Device>
[[nodiscard]] Device device_of(dvla::executor& pool) {
  if constexpr (Device::is_host) return Device{&pool};
  else return Device{};
}

/// The configuration that a checkpoint was made with; an empty object for a file of another program.
[[nodiscard]] inline json configuration_of(dvla::named_tensors const& archive) {
  auto const text = archive.metadata("dvla.configuration");
  if (!text) return json::object();
  try {
    return json::parse(*text);
  } catch (json::exception const&) {
    dvla::fail(archive.source(), " is damaged: its configuration cannot be read");
  }
}

/// The command line's value, else the checkpoint's, else the default; written into the configuration.
template <class T>
T settle(json& configuration, char const* key, std::optional<T> const& given, T fallback) {
  T value = fallback;
  if (given)
    value = *given;
  else if (configuration.contains(key))
    value = configuration.at(key).get<T>();
  configuration[key] = value;
  return value;
}

/// Throws where a run is continued with another configuration than it began with.
inline void expect_same(json const& before, json const& now, std::string const& file) {
  for (auto const& [key, value] : now.items())
    dvla::expect(before.contains(key) && before.at(key) == value, file, " was made with ", key, " ",
                 before.contains(key) ? before.at(key).dump() : std::string("unset"), ", but now it is ", value.dump(),
                 "; continue with the same options or give another --out");
}

/// The folder of a run: last.safetensors to continue from, and results beside it.
class run_folder {
 public:
  explicit run_folder(run_options const& run) : path_(run.out) {
    dvla::expect(!std::filesystem::exists(path_) || std::filesystem::is_directory(path_), "--out ", run.out,
                 " is a file; give a folder");
    bool const begun = std::filesystem::exists(last());
    dvla::expect(!begun || run.resume, "--out ", run.out,
                 " holds a run already; add --resume to continue it, or give another folder");
    continues_ = begun;
  }

  /// Makes the folder: once all that a run reads has been found.
  void make() const {
    std::error_code failed;
    std::filesystem::create_directories(path_, failed);
    dvla::expect(!failed && std::filesystem::is_directory(path_), "--out ", path_.string(), ": the folder cannot be made");
  }

  [[nodiscard]] bool continues() const { return continues_; }
  [[nodiscard]] std::filesystem::path last() const { return path_ / "last.safetensors"; }
  [[nodiscard]] std::filesystem::path file(char const* name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
  bool continues_ = false;
};

/// When to save: every so many steps, or about once a minute.
class save_clock {
 public:
  explicit save_clock(std::uint64_t every) : every_(every) {}
  [[nodiscard]] bool due(std::uint64_t step) {
    using clock = std::chrono::steady_clock;
    bool const now = every_ > 0 ? step % every_ == 0 : clock::now() - saved_ > std::chrono::seconds(60);
    if (now) saved_ = clock::now();
    return now;
  }

 private:
  std::uint64_t every_;
  std::chrono::steady_clock::time_point saved_ = std::chrono::steady_clock::now();
};

/// Set by SIGINT and SIGTERM: a run then saves and ends.
inline std::sig_atomic_t volatile stop_requested = 0;
inline void request_stop(int) { stop_requested = 1; }
inline void watch_signals() {
  std::signal(SIGINT, request_stop);
  std::signal(SIGTERM, request_stop);
}

/// Ends a command that did what it could, but not everything.
struct incomplete {
  std::string message;
};

/// Ends an interrupted run with this message.
struct interrupted {
  std::string message;
};

}  // namespace cli
