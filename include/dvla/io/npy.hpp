// numpy's .npy files (versions 1 to 3), read and written, and .npz archives without compression, read.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/io/atomic_file.hpp>
#include <dvla/io/dtype.hpp>
#include <dvla/io/mapped_file.hpp>
#include <dvla/io/named_tensors.hpp>
#include <dvla/io/stored_tensor.hpp>
#include <dvla/io/strided.hpp>
#include <dvla/io/zip.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// What the header of an .npy file says: a Python dictionary such as
/// {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
struct npy_header {
  std::string descr;
  bool fortran_order = false;
  std::vector<std::size_t> shape;
};

/// Reads that literal, and nothing else of Python.
class npy_header_parser {
 public:
  npy_header_parser(std::string const& source, std::string_view text) : source_(&source), rest_(text) {}

  [[nodiscard]] npy_header parse() {
    npy_header header;
    unsigned seen = 0;
    require('{');
    while (!accept('}')) {
      std::string const key = text();
      require(':');
      if (key == "descr")
        header.descr = description();
      else if (key == "fortran_order")
        header.fortran_order = boolean();
      else if (key == "shape")
        header.shape = tuple();
      else
        damaged(concat("an unknown key '", key, "'"));
      ++seen;
      if (!accept(',')) {
        require('}');
        break;
      }
    }
    if (seen != 3 || header.descr.empty()) damaged("not the three keys descr, fortran_order and shape");
    return header;
  }

 private:
  [[noreturn]] void damaged(std::string_view what) const { fail(*source_, ": the .npy header is damaged: it has ", what); }

  void skip_space() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \n"), rest_.size())); }

  bool accept(char c) {
    skip_space();
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void require(char c) {
    if (!accept(c)) damaged(concat("no '", c, "' where one is due"));
  }

  std::string text() {
    require('\'');
    std::size_t const end = rest_.find('\'');
    if (end == std::string_view::npos) damaged("a text without end");
    std::string const out(rest_.substr(0, end));
    rest_.remove_prefix(end + 1);
    return out;
  }

  std::string description() {
    skip_space();
    expect(!rest_.starts_with('['), *source_, " holds a structured array; save each of its fields as an array of its own");
    return text();
  }

  bool boolean() {
    skip_space();
    bool const value = rest_.starts_with("True");
    if (!value && !rest_.starts_with("False")) damaged("no True or False for fortran_order");
    rest_.remove_prefix(value ? 4 : 5);
    return value;
  }

  std::vector<std::size_t> tuple() {
    std::vector<std::size_t> out;
    require('(');
    while (!accept(')')) {
      skip_space();
      std::size_t extent = 0;
      auto const [end, problem] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
      if (problem != std::errc()) damaged("a shape that is no tuple of counts");
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      out.push_back(extent);
      if (!accept(',')) {
        require(')');
        break;
      }
    }
    return out;
  }

  std::string const* source_;
  std::string_view rest_;
};

/// numpy's letter and size for a type, without byte order; empty for bfloat16, which numpy does not have.
inline std::string npy_type_code(dtype type) {
  if (type == dtype::boolean) return "b1";
  if (type == dtype::bf16) return {};
  char const letter = dtype_name(type)[0] == 'F' ? 'f' : dtype_name(type)[0] == 'I' ? 'i' : 'u';
  return letter + std::to_string(dtype_size(type));
}

inline dtype npy_type(std::string const& source, std::string_view descr) {
  for (unsigned i = 0; i < dtype_table.size(); ++i) {
    auto const type = static_cast<dtype>(i);
    if (type != dtype::bf16 && descr.substr(1) == npy_type_code(type)) return type;
  }
  fail(source, " holds an array of the numpy type '", descr, "'; only numbers and booleans of up to 64 bits are read");
}

/// The array in these bytes. What must be copied, for its order or byte order, is put into copies.
inline stored_tensor parse_npy(std::string const& source, std::string name, std::span<std::byte const> bytes,
                               std::vector<std::vector<std::byte>>& copies) {
  little_endian_reader const in(source, bytes);
  expect(bytes.size() >= 10 && in.text(0, 6) == "\x93NUMPY", source, " is no .npy file: it does not begin as one");
  auto const version = in.number<std::uint8_t>(6);
  expect(version >= 1 && version <= 3, source, " has .npy version ", version, "; 1 to 3 are read");
  std::uint64_t const begin = version == 1 ? 10 : 12;
  std::uint64_t const length = version == 1 ? in.number<std::uint16_t>(8) : in.number<std::uint32_t>(8);
  npy_header header = npy_header_parser(source, in.text(begin, length)).parse();
  dtype const type = npy_type(source, header.descr);
  std::size_t const element = dtype_size(type);
  auto const count = checked_element_count(header.shape, element);
  std::span<std::byte const> data = bytes.subspan(static_cast<std::size_t>(begin + length));
  expect(count.has_value() && *count * element == data.size(), source, ": an array of ", dtype_name(type), " and shape ",
         shape_text(header.shape), " does not match the ", data.size(),
         " bytes that follow its header; it is truncated or damaged");
  if (header.descr[0] == '>') {
    auto& swapped = copies.emplace_back(data.begin(), data.end());
    for (std::size_t i = 0; i < swapped.size(); i += element)
      std::reverse(swapped.begin() + static_cast<std::ptrdiff_t>(i), swapped.begin() + static_cast<std::ptrdiff_t>(i + element));
    data = swapped;
  }
  if (header.fortran_order && *count != 0) {
    auto ordered = copy_to_c_order(data.data(), header.shape, fortran_order_strides(header.shape), *count, element);
    data = copies.emplace_back(std::move(ordered));
  }
  return {std::move(name), type, std::move(header.shape), data};
}

struct npy_storage {
  mapped_file file;
  std::vector<std::vector<std::byte>> copies;
};

inline named_tensors read_npy(std::filesystem::path const& path) {
  std::string const source = path.string();
  auto const memory = std::make_shared<npy_storage>(npy_storage{mapped_file(path), {}});
  auto tensor = parse_npy(source, path.stem().string(), memory->file.bytes(), memory->copies);
  return {source, {std::move(tensor)}, {}, memory};
}

inline named_tensors read_npz(std::filesystem::path const& path) {
  std::string const source = path.string();
  auto const memory = std::make_shared<npy_storage>(npy_storage{mapped_file(path), {}});
  zip_archive const archive(source, memory->file.bytes());
  std::vector<stored_tensor> tensors;
  for (auto const& entry : archive.entries()) {
    std::string_view const name = entry.name;
    expect(name.ends_with(".npy"), source, " holds '", name, "', which is no .npy array");
    std::string const array(name.substr(0, name.size() - 4));
    tensors.push_back(parse_npy(concat(source, ", array '", array, "'"), array, archive.content(entry), memory->copies));
  }
  return {source, std::move(tensors), {}, memory};
}

}  // namespace detail

/// One array of numpy.save, in C order whatever its order in the file. Throws for anything but numbers and booleans and
/// for a truncated or damaged file.
class npy_file : public named_tensors {
 public:
  explicit npy_file(std::filesystem::path const& path) : named_tensors(detail::read_npy(path)) {}

  /// The array; its name is that of the file without extension.
  [[nodiscard]] stored_tensor const& tensor() const { return tensors().front(); }
};

/// The arrays of numpy.savez by name. Those of numpy.savez_compressed are refused: save them again with savez.
class npz_file : public named_tensors {
 public:
  explicit npz_file(std::filesystem::path const& path) : named_tensors(detail::read_npz(path)) {}
};

/// Writes numbers in C order as numpy.save does. Throws where they do not fill the shape or the file cannot be written.
template <class T>
requires std::is_arithmetic_v<T>
void write_npy(std::filesystem::path const& path, std::span<std::size_t const> shape, std::span<T const> values) {
  auto const count = detail::checked_element_count(shape, sizeof(T));
  expect(count == values.size(), "cannot write ", path.string(), ": ", values.size(), " numbers do not fill the shape ",
         shape_text(shape));
  std::string extents;
  for (std::size_t const extent : shape) extents += concat(extent, shape.size() == 1 ? "," : ", ");
  if (shape.size() > 1) extents.resize(extents.size() - 2);
  std::string header = concat("{'descr': '", sizeof(T) == 1 ? '|' : '<', detail::npy_type_code(dtype_of<T>()),
                              "', 'fortran_order': False, 'shape': (", extents, "), }");
  bool const wide = header.size() + 64 > 0xffff;  // version 2 has four bytes for the length
  std::size_t const fixed = wide ? 12 : 10;
  header.append((64 - (fixed + header.size() + 1) % 64) % 64, ' ');
  header += '\n';
  std::string prefix("\x93NUMPY\x01\x00", 8);
  if (wide) prefix[6] = 2;
  for (std::size_t i = 0; i < fixed - 8; ++i) prefix += static_cast<char>((header.size() >> (8 * i)) & 0xff);
  atomic_file file(path);
  file.append(prefix);
  file.append(header);
  file.append(std::as_bytes(values));
  file.commit();
}

}  // namespace dvla::inline DVLA_ABI
