// A whole file as read-only memory.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// The operating system's words for its error number.
inline std::string system_message(int number) { return std::generic_category().message(number); }

/// A POSIX file descriptor that closes itself.
class file_descriptor {
 public:
  explicit file_descriptor(int number) : number_(number) {}
  file_descriptor(file_descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  file_descriptor& operator=(file_descriptor&&) = delete;
  ~file_descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  [[nodiscard]] int get() const { return number_; }
  /// Closes now; false where the system reports that earlier writes were lost.
  [[nodiscard]] bool close() { return ::close(std::exchange(number_, -1)) == 0; }

 private:
  int number_;
};

}  // namespace detail

/// Maps a regular file for reading; the bytes live as long as this object. The file must not be shortened meanwhile:
/// replace it by a rename, as everything in this library that writes does.
class mapped_file {
 public:
  /// Throws where the file cannot be opened, is no regular file, or cannot be mapped.
  explicit mapped_file(std::filesystem::path const& path) {
    detail::file_descriptor const file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.get() < 0) fail("cannot open ", path.string(), ": ", detail::system_message(errno));
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) fail("cannot read the size of ", path.string(), ": ", detail::system_message(errno));
    expect(S_ISREG(status.st_mode), "cannot read ", path.string(), ": it is not a regular file");
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ == 0) return;
    void* const memory = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (memory == MAP_FAILED) fail("cannot map ", path.string(), " into memory: ", detail::system_message(errno));
    data_ = static_cast<std::byte const*>(memory);
  }

  mapped_file(mapped_file&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapped_file& operator=(mapped_file&&) = delete;
  ~mapped_file() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  [[nodiscard]] std::span<std::byte const> bytes() const { return {data_, size_}; }

 private:
  std::byte const* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace dvla::inline DVLA_ABI
