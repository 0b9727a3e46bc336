// The directory of a zip archive and its stored (uncompressed) entries: what PyTorch and numpy.savez write.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// Little-endian numbers at places of a buffer; reading past its end throws that the file is truncated.
class little_endian_reader {
 public:
  little_endian_reader(std::string const& source, std::span<std::byte const> bytes) : source_(&source), bytes_(bytes) {}

  [[nodiscard]] std::span<std::byte const> slice(std::uint64_t place, std::uint64_t size) const {
    if (place > bytes_.size() || size > bytes_.size() - place)
      fail(*source_, " is truncated or damaged: bytes ", place, " to ", place + size, " are needed of ", bytes_.size());
    return bytes_.subspan(static_cast<std::size_t>(place), static_cast<std::size_t>(size));
  }

  template <class T>
  [[nodiscard]] T number(std::uint64_t place) const {
    T value;
    std::memcpy(&value, slice(place, sizeof(T)).data(), sizeof(T));
    return value;
  }

  [[nodiscard]] std::string_view text(std::uint64_t place, std::uint64_t size) const {
    auto const part = slice(place, size);
    return {reinterpret_cast<char const*>(part.data()), part.size()};
  }

 private:
  std::string const* source_;
  std::span<std::byte const> bytes_;
};

}  // namespace detail

/// A zip archive in memory (PKWARE's APPNOTE 6.3). Sizes come from the central directory, because streaming writers
/// leave them zero in the local headers. Archives over several disks and encrypted entries are refused.
class zip_archive {
 public:
  struct entry {
    std::string name;
    std::uint16_t flags = 0;
    std::uint16_t method = 0;
    std::uint64_t stored_size = 0;
    std::uint64_t size = 0;
    std::uint64_t header = 0;  ///< where the local header begins
  };

  /// Reads the directory. source names the file in messages; the bytes must outlive the archive.
  zip_archive(std::string source, std::span<std::byte const> bytes) : source_(std::move(source)), bytes_(bytes) {
    auto const [begin, count] = find_directory();
    read_directory(begin, count);
  }

  [[nodiscard]] std::vector<entry> const& entries() const { return entries_; }

  /// The entry of that name, or nullptr.
  [[nodiscard]] entry const* find(std::string_view name) const {
    auto const by_name = [](entry const& e, std::string_view wanted) { return e.name < wanted; };
    auto const found = std::lower_bound(entries_.begin(), entries_.end(), name, by_name);
    return found != entries_.end() && found->name == name ? &*found : nullptr;
  }

  /// The content of an entry, without a copy. Throws for a compressed one.
  [[nodiscard]] std::span<std::byte const> content(entry const& e) const {
    expect((e.flags & 1) == 0, source_, ": the entry '", e.name, "' is encrypted, which this reader does not support");
    expect(e.method == 0, source_, ": the entry '", e.name,
           "' is compressed; save the file again without compression (torch.save and ", "numpy.savez do not compress)");
    expect(e.size == e.stored_size, source_, " is damaged: the stored entry '", e.name, "' has two different sizes");
    detail::little_endian_reader const in(source_, bytes_);
    expect(in.number<std::uint32_t>(e.header) == local_signature, source_, " is damaged: no entry begins where '", e.name,
           "' should");
    std::uint64_t const begin = e.header + 30 + in.number<std::uint16_t>(e.header + 26) + in.number<std::uint16_t>(e.header + 28);
    return in.slice(begin, e.size);
  }

 private:
  static constexpr std::uint32_t local_signature = 0x04034b50;
  static constexpr std::uint32_t directory_signature = 0x02014b50;
  static constexpr std::uint32_t end_signature = 0x06054b50;
  static constexpr std::uint32_t end64_signature = 0x06064b50;
  static constexpr std::uint32_t locator64_signature = 0x07064b50;
  static constexpr std::uint32_t in_zip64 = 0xffffffff;

  /// Place of the end record, searched from the back: a comment of up to 65535 bytes may follow it.
  [[nodiscard]] std::uint64_t find_end(detail::little_endian_reader const& in) const {
    for (std::uint64_t back = 22; back <= std::min<std::uint64_t>(bytes_.size(), 22 + 0xffff); ++back) {
      std::uint64_t const place = bytes_.size() - back;
      if (in.number<std::uint32_t>(place) == end_signature && in.number<std::uint16_t>(place + 20) == back - 22) return place;
    }
    fail(source_, " is truncated or no zip archive: its end record is missing");
  }

  /// Where the central directory begins and how many entries it has.
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> find_directory() const {
    detail::little_endian_reader const in(source_, bytes_);
    std::uint64_t const end = find_end(in);
    std::uint64_t count = in.number<std::uint16_t>(end + 10);
    std::uint64_t begin = in.number<std::uint32_t>(end + 16);
    if (end >= 20 && in.number<std::uint32_t>(end - 20) == locator64_signature) {
      auto const end64 = in.number<std::uint64_t>(end - 12);
      expect(in.slice(end64, 56).size() == 56 && in.number<std::uint32_t>(end64) == end64_signature, source_,
             " is damaged: its zip64 end record is missing");
      count = in.number<std::uint64_t>(end64 + 32);
      begin = in.number<std::uint64_t>(end64 + 48);
    }
    return {begin, count};
  }

  void read_directory(std::uint64_t place, std::uint64_t count) {
    detail::little_endian_reader const in(source_, bytes_);
    expect(count <= bytes_.size() / 46, source_, " is damaged: its directory claims ", count, " entries");
    entries_.reserve(static_cast<std::size_t>(count));
    for (std::uint64_t i = 0; i < count; ++i) {
      expect(in.number<std::uint32_t>(place) == directory_signature, source_, " is damaged: entry ", i,
             " of its directory is missing");
      std::uint64_t const name_size = in.number<std::uint16_t>(place + 28);
      std::uint64_t const extra_size = in.number<std::uint16_t>(place + 30);
      std::uint64_t const comment_size = in.number<std::uint16_t>(place + 32);
      entry e;
      e.name = in.text(place + 46, name_size);
      e.flags = in.number<std::uint16_t>(place + 8);
      e.method = in.number<std::uint16_t>(place + 10);
      e.stored_size = in.number<std::uint32_t>(place + 20);
      e.size = in.number<std::uint32_t>(place + 24);
      e.header = in.number<std::uint32_t>(place + 42);
      widen(e, in.slice(place + 46 + name_size, extra_size));
      expect(e.header <= bytes_.size(), source_, " is damaged: its entry '", e.name, "' begins behind the end of the file");
      entries_.push_back(std::move(e));
      place += 46 + name_size + extra_size + comment_size;
    }
    std::sort(entries_.begin(), entries_.end(), [](entry const& a, entry const& b) { return a.name < b.name; });
    for (std::size_t i = 1; i < entries_.size(); ++i)
      expect(entries_[i - 1].name != entries_[i].name, source_, " is damaged: it holds two entries named '", entries_[i].name, "'");
  }

  /// Takes the 64-bit values that an entry keeps in its zip64 extra field: only those that are all ones outside it.
  void widen(entry& e, std::span<std::byte const> extra) const {
    detail::little_endian_reader const in(source_, extra);
    for (std::uint64_t place = 0; place + 4 <= extra.size();) {
      auto const id = in.number<std::uint16_t>(place);
      std::uint64_t const size = in.number<std::uint16_t>(place + 2);
      std::uint64_t next = place + 4;
      place += 4 + size;
      if (id != 1) continue;
      for (std::uint64_t* const value : {&e.size, &e.stored_size, &e.header}) {
        if (*value != in_zip64) continue;
        *value = in.number<std::uint64_t>(next);
        next += 8;
      }
    }
  }

  std::string source_;
  std::span<std::byte const> bytes_;
  std::vector<entry> entries_;  // sorted by name
};

}  // namespace dvla::inline DVLA_ABI
