// Shared by the tests of this room: fixtures, scratch files, error messages, hand-made archives.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/io/named_tensors.hpp>

namespace dvla_test {

namespace fs = std::filesystem;

inline fs::path fixture(std::string const& name) { return fs::path(__FILE__).parent_path() / "fixtures" / name; }

/// A folder that vanishes with its content at the end of the test.
class scratch_folder {
 public:
  scratch_folder() {
    std::string pattern = (fs::temp_directory_path() / "dvla_io_XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  scratch_folder(scratch_folder const&) = delete;
  scratch_folder& operator=(scratch_folder const&) = delete;
  ~scratch_folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  [[nodiscard]] fs::path operator/(std::string const& name) const { return path_ / name; }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

inline std::string read_bytes(fs::path const& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_bytes(fs::path const& path, std::string_view bytes) {
  fs::remove(path);  // ext4 flushes a file that is truncated and written again, which takes milliseconds
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// The message of the dvla::error that f throws; "no error" where it returns.
template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (dvla::error const& problem) {
    return problem.what();
  }
  return "no error";
}

inline bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// Reads every element of every tensor, so that a sanitizer sees a view outside its file.
inline double sum_of_all(dvla::named_tensors const& file) {
  double sum = 0;
  for (auto const& tensor : file.tensors())
    for (double const value : dvla::read_as<double>(tensor)) sum += value;
  return sum;
}

/// Little-endian bytes of a number.
template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// A zip archive of stored entries. method other than 0 only says so; with zip64, sizes and places move to 64-bit fields.
inline std::string make_zip(std::vector<std::pair<std::string, std::string>> const& entries, std::uint16_t method = 0,
                            bool zip64 = false) {
  std::string out;
  std::string directory;
  for (auto const& [name, content] : entries) {
    auto const name_size = static_cast<std::uint16_t>(name.size());
    auto const size = static_cast<std::uint32_t>(content.size());
    std::uint32_t const shown = zip64 ? 0xffffffff : size;
    std::string const extra = zip64 ? raw<std::uint16_t>(1) + raw<std::uint16_t>(24) + raw<std::uint64_t>(size) +
                                          raw<std::uint64_t>(size) + raw<std::uint64_t>(out.size())
                                    : "";
    directory += raw<std::uint32_t>(0x02014b50) + std::string(6, '\0') + raw(method) + std::string(8, '\0') + raw(shown) +
                 raw(shown) + raw(name_size) + raw(static_cast<std::uint16_t>(extra.size())) + std::string(10, '\0') +
                 (zip64 ? raw<std::uint32_t>(0xffffffff) : raw(static_cast<std::uint32_t>(out.size()))) + name + extra;
    out += raw<std::uint32_t>(0x04034b50) + std::string(22, '\0') + raw(name_size) + raw<std::uint16_t>(0) + name + content;
  }
  auto const begin = out.size();
  out += directory;
  auto const count = static_cast<std::uint16_t>(entries.size());
  if (zip64) {
    auto const end64 = out.size();
    out += raw<std::uint32_t>(0x06064b50) + raw<std::uint64_t>(44) + std::string(12, '\0') + raw<std::uint64_t>(count) +
           raw<std::uint64_t>(count) + raw<std::uint64_t>(directory.size()) + raw<std::uint64_t>(begin);
    out += raw<std::uint32_t>(0x07064b50) + raw<std::uint32_t>(0) + raw<std::uint64_t>(end64) + raw<std::uint32_t>(1);
  }
  return out + raw<std::uint32_t>(0x06054b50) + raw<std::uint32_t>(0) + raw(count) + raw(count) +
         raw(static_cast<std::uint32_t>(directory.size())) + raw(zip64 ? 0xffffffffu : static_cast<std::uint32_t>(begin)) +
         raw<std::uint16_t>(0);
}

}  // namespace dvla_test
