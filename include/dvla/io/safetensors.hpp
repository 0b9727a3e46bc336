// Reader and writer of safetensors files: u64 header length, JSON header, tensor data that tile the rest.
// The reader takes nothing on trust; the writer's bytes are those of the reference implementation.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/io/atomic_file.hpp>
#include <dvla/io/dtype.hpp>
#include <dvla/io/json_limits.hpp>
#include <dvla/io/mapped_file.hpp>
#include <dvla/io/named_tensors.hpp>
#include <dvla/io/stored_tensor.hpp>

namespace dvla::inline DVLA_ABI {

static_assert(std::endian::native == std::endian::little, "tensor files are little-endian, and so must this machine be");

namespace detail {

/// The largest header that the reference implementation takes.
inline constexpr std::uint64_t safetensors_header_limit = 100'000'000;

/// The header as JSON. A key that occurs twice in one object is an error: the format forbids it, and readers that take
/// the first would differ from readers that take the last.
inline nlohmann::json parse_safetensors_header(std::string const& source, std::string_view text) {
  json_limits const limits(text, 3, true);  // the file, a tensor, its lists
  expect(!limits.too_deep(), source, ": the header is nested deeper than safetensors allows");
  expect(!limits.repeats_key(), source, ": the header names '", limits.this_key(), "' twice");
  try {
    return nlohmann::json::parse(text.begin(), text.end());
  } catch (nlohmann::json::exception const& problem) {
    fail(source, ": the header is not valid JSON (", problem.what(), "); the file is damaged or no safetensors file");
  }
}

/// A non-negative integer of the header that fits into size_t.
inline std::size_t safetensors_number(std::string const& where, nlohmann::json const& value) {
  expect(value.is_number_unsigned(), where, " must be a non-negative integer of at most 64 bits, not ", value.dump());
  return value.get<std::size_t>();
}

/// One entry of the header as a tensor whose bytes lie in data.
inline stored_tensor safetensors_entry(std::string const& source, std::string const& name, nlohmann::json const& entry,
                                       std::span<std::byte const> data) {
  std::string const where = concat(source, ": tensor '", name, "'");
  expect(entry.is_object() && entry.size() == 3 && entry.contains("dtype") && entry.contains("shape") &&
             entry.contains("data_offsets"),
         where, " must have exactly the keys dtype, shape and data_offsets");
  auto const& type_name = entry["dtype"];
  auto const type = type_name.is_string() ? dtype_of_name(type_name.get<std::string>()) : std::nullopt;
  if (!type) fail(where, " has the dtype ", type_name.dump(), ", which is not read here; convert it to F32, F16 or BF16");
  stored_tensor tensor{name, *type, {}, {}};
  expect(entry["shape"].is_array(), where, ": the shape must be a list");
  for (auto const& extent : entry["shape"]) tensor.shape.push_back(safetensors_number(where + ": an extent of the shape", extent));
  auto const& offsets = entry["data_offsets"];
  expect(offsets.is_array() && offsets.size() == 2, where, ": data_offsets must be a list of two numbers");
  std::size_t const begin = safetensors_number(where + ": a data offset", offsets[0]);
  std::size_t const end = safetensors_number(where + ": a data offset", offsets[1]);
  expect(begin <= end && end <= data.size(), where, " lies at bytes ", begin, " to ", end, " of ", data.size(),
         " bytes of data; the file is truncated or damaged");
  auto const count = checked_element_count(tensor.shape, dtype_size(*type));
  expect(count.has_value(), where, ": the shape ", shape_text(tensor.shape), " has more elements than memory can address");
  expect(*count * dtype_size(*type) == end - begin, where, ": ", dtype_name(*type), " of shape ", shape_text(tensor.shape),
         " takes ", *count * dtype_size(*type), " bytes, but its offsets give ", end - begin);
  tensor.bytes = data.subspan(begin, end - begin);
  return tensor;
}

/// Checks that the tensors, sorted by place, cover the data without hole or overlap.
inline void check_safetensors_tiling(std::string const& source, std::span<stored_tensor const> tensors,
                                     std::span<std::byte const> data) {
  std::byte const* place = data.data();
  for (stored_tensor const& tensor : tensors) {
    expect(tensor.bytes.data() == place, source, ": tensor '", tensor.name, "' begins at byte ", tensor.bytes.data() - data.data(),
           " of the data where the one before ends at ", place - data.data(), "; safetensors allows neither holes nor overlaps");
    place += tensor.bytes.size();
  }
  expect(place == data.data() + data.size(), source, ": the last tensor ends at byte ", place - data.data(), " of ", data.size(),
         " bytes of data; what follows belongs to no tensor");
}

inline named_tensors read_safetensors(std::filesystem::path const& path) {
  std::string const source = path.string();
  auto const file = std::make_shared<mapped_file const>(path);
  std::span<std::byte const> const bytes = file->bytes();
  expect(bytes.size() >= 8, source, " is no safetensors file: it has ", bytes.size(),
         " bytes, fewer than the 8 of the header length");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  expect(length <= safetensors_header_limit, source, " claims a header of ", length, " bytes, above the format's limit of ",
         safetensors_header_limit, "; it is damaged or no safetensors file");
  expect(length <= bytes.size() - 8, source, " is truncated: its header has ", length, " bytes, but only ", bytes.size() - 8,
         " follow");
  std::string_view const text(reinterpret_cast<char const*>(bytes.data()) + 8, static_cast<std::size_t>(length));
  expect(text.starts_with('{'), source, ": the header does not begin with '{'; it is damaged or no safetensors file");
  std::span<std::byte const> const data = bytes.subspan(8 + text.size());

  named_tensors::text_pairs metadata;
  std::vector<stored_tensor> tensors;
  nlohmann::json const header = parse_safetensors_header(source, text);
  for (auto const& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      tensors.push_back(safetensors_entry(source, name, entry, data));
      continue;
    }
    expect(entry.is_object(), source, ": __metadata__ must be an object of strings");
    for (auto const& [key, value] : entry.items()) {
      expect(value.is_string(), source, ": metadata '", key, "' must be a string");
      metadata.emplace_back(key, value.get<std::string>());
    }
  }
  std::stable_sort(tensors.begin(), tensors.end(), [](stored_tensor const& a, stored_tensor const& b) {
    return std::pair(a.bytes.data(), a.bytes.size()) < std::pair(b.bytes.data(), b.bytes.size());
  });
  check_safetensors_tiling(source, tensors, data);
  return {source, std::move(tensors), std::move(metadata), file};
}

}  // namespace detail

/// A safetensors file, memory-mapped. The constructor validates everything and throws a sentence that names the file
/// and what is wrong; afterwards reading a tensor cannot fail. Tensors come in the order of their data.
class safetensors_file : public named_tensors {
 public:
  explicit safetensors_file(std::filesystem::path const& path) : named_tensors(detail::read_safetensors(path)) {}
};

/// Collects tensors and writes them as one safetensors file.
class safetensors_writer {
 public:
  /// Adds a tensor; the bytes are copied. Throws for a name used before or bytes that do not fill the shape.
  void add(std::string name, dtype type, std::vector<std::size_t> shape, std::span<std::byte const> bytes) {
    expect(name != "__metadata__", "a tensor cannot be named '__metadata__': safetensors reserves that name");
    expect(names_.insert(name).second, "the tensor '", name, "' was added to the file twice");
    auto const count = detail::checked_element_count(shape, dtype_size(type));
    expect(count.has_value() && *count * dtype_size(type) == bytes.size(), "the tensor '", name, "' of shape ", shape_text(shape),
           " and type ", dtype_name(type), " was given ", bytes.size(), " bytes, which do not fill it");
    entries_.push_back({std::move(name), type, std::move(shape), {bytes.begin(), bytes.end()}});
  }

  /// Adds a tensor of numbers; they are copied.
  template <class T>
  requires std::is_arithmetic_v<T>
  void add(std::string name, std::vector<std::size_t> shape, std::span<T const> values) {
    add(std::move(name), dtype_of<T>(), std::move(shape), std::as_bytes(values));
  }

  /// Sets the metadata text of that key.
  void metadata(std::string key, std::string value) { metadata_[std::move(key)] = std::move(value); }

  /// Writes the file, complete or not at all. Throws where it cannot be written or a name is not valid UTF-8.
  void write(std::filesystem::path const& path) const {
    std::vector<entry const*> order;
    for (entry const& e : entries_) order.push_back(&e);
    std::sort(order.begin(), order.end(),
              [](entry const* a, entry const* b) { return std::tie(b->type, a->name) < std::tie(a->type, b->name); });
    std::string const text = header(path, order);
    expect(text.size() <= detail::safetensors_header_limit, "cannot write ", path.string(), ": names and metadata take ",
           text.size(), " bytes, above the format's limit of ", detail::safetensors_header_limit);
    std::uint64_t const length = text.size();
    atomic_file file(path);
    file.append(std::as_bytes(std::span(&length, 1)));
    file.append(text);
    for (entry const* e : order) file.append(e->bytes);
    file.commit();
  }

 private:
  struct entry {
    std::string name;
    dtype type;
    std::vector<std::size_t> shape;
    std::vector<std::byte> bytes;
  };

  [[nodiscard]] std::string header(std::filesystem::path const& path, std::span<entry const* const> order) const {
    std::string text = "{";
    try {
      if (!metadata_.empty()) text += "\"__metadata__\":" + nlohmann::json(metadata_).dump() + ",";
      std::size_t begin = 0;
      for (entry const* e : order) {
        std::size_t const end = begin + e->bytes.size();
        text += concat(nlohmann::json(e->name).dump(), ":{\"dtype\":\"", dtype_name(e->type), "\",\"shape\":");
        text += concat(nlohmann::json(e->shape).dump(), ",\"data_offsets\":[", begin, ",", end, "]},");
        begin = end;
      }
    } catch (nlohmann::json::exception const& problem) {
      fail("cannot write ", path.string(), ": a name or metadata text is not valid UTF-8 (", problem.what(), ")");
    }
    if (text.back() == ',') text.pop_back();
    text += '}';
    text.append((8 - text.size() % 8) % 8, ' ');  // so that the data begin at a multiple of 8
    return text;
  }

  std::vector<entry> entries_;
  std::set<std::string> names_;
  nlohmann::json::object_t metadata_;
};

}  // namespace dvla::inline DVLA_ABI
