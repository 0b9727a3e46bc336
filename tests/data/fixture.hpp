// What several tests of this room need: fixtures by name, folders that vanish, noise, and the message of an error.
#pragma once

#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/data/decode.hpp>
#include <dvla/data/image.hpp>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace dvla_test {

inline std::filesystem::path fixture(std::string_view name) {
  return std::filesystem::path(__FILE__).parent_path() / "fixtures" / name;
}

inline std::filesystem::path golden(std::string_view name) {
  return std::filesystem::path(__FILE__).parent_path().parent_path() / "golden" / name;
}

/// A new empty folder, removed at the end of the scope.
class scratch_folder {
 public:
  scratch_folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "dvla_data_XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  scratch_folder(scratch_folder const&) = delete;
  ~scratch_folder() { std::filesystem::remove_all(path_); }

  [[nodiscard]] std::filesystem::path const& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline void write_file(std::filesystem::path const& path, std::string_view content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

inline void write_file(std::filesystem::path const& path, std::vector<std::uint8_t> const& content) {
  write_file(path, std::string_view(reinterpret_cast<char const*>(content.data()), content.size()));
}

/// An image of uniform noise, a function of its size and number.
inline dvla::image noise(std::size_t height, std::size_t width, std::uint32_t number = 0) {
  dvla::image out(height, width);
  dvla::random_stream random(99, dvla::draw::test, number, 0);
  for (auto& p : out.pixels) p = static_cast<std::uint8_t>(random.below(256));
  return out;
}

/// The message of the dvla::error that the call throws; empty if it throws none.
template <class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (dvla::error const& e) {
    return e.what();
  }
  return {};
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace dvla_test
