// Reader of PyTorch's .pth, .pt and .bin files (torch >= 1.6): a zip archive with a pickle that describes tensors over
// storages, which are entries of their own. Nothing in the file is ever executed; see pickle.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/io/dtype.hpp>
#include <dvla/io/mapped_file.hpp>
#include <dvla/io/named_tensors.hpp>
#include <dvla/io/pickle.hpp>
#include <dvla/io/stored_tensor.hpp>
#include <dvla/io/strided.hpp>
#include <dvla/io/zip.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

struct torch_storage_type {
  std::string_view global;
  dtype type;
};

inline constexpr std::array<torch_storage_type, 10> torch_storage_types{{{"torch.FloatStorage", dtype::f32},
                                                                         {"torch.HalfStorage", dtype::f16},
                                                                         {"torch.BFloat16Storage", dtype::bf16},
                                                                         {"torch.DoubleStorage", dtype::f64},
                                                                         {"torch.LongStorage", dtype::i64},
                                                                         {"torch.IntStorage", dtype::i32},
                                                                         {"torch.ShortStorage", dtype::i16},
                                                                         {"torch.CharStorage", dtype::i8},
                                                                         {"torch.ByteStorage", dtype::u8},
                                                                         {"torch.BoolStorage", dtype::boolean}}};

/// The other names that may occur in a file. The numpy ones occur where a metric was saved as a numpy scalar.
inline constexpr std::array<std::string_view, 10> torch_globals{"collections.OrderedDict",
                                                                "torch._utils._rebuild_tensor_v2",
                                                                "torch._utils._rebuild_parameter",
                                                                "torch.Size",
                                                                "__builtin__.set",
                                                                "builtins.set",
                                                                "_codecs.encode",
                                                                "numpy.core.multiarray.scalar",
                                                                "numpy._core.multiarray.scalar",
                                                                "numpy.dtype"};

/// Throws for a global that is not needed to describe tensors.
inline void check_torch_global(std::string const& source, std::string_view name) {
  for (auto const& storage : torch_storage_types)
    if (storage.global == name) return;
  if (std::find(torch_globals.begin(), torch_globals.end(), name) != torch_globals.end()) return;
  bool const packed = name.find("sparse") != std::string_view::npos || name.find("qtensor") != std::string_view::npos;
  if (packed) fail(source, " holds a sparse or quantised tensor (", name, "); save it again after .to_dense() or .dequantize()");
  fail(source, " asks for the Python object '", name,
       "', which this reader refuses to construct; in Python, save the state_dict alone ", "or convert the file to safetensors");
}

/// Walks the unpickled values and lists tensors and texts under the dotted path of their keys.
class pth_flattener {
 public:
  struct storage {
    mapped_file file;
    std::deque<std::vector<std::byte>> copies;  // of views that are not in C order
  };

  pth_flattener(std::string source, std::shared_ptr<storage> memory)
      : source_(std::move(source)),
        memory_(std::move(memory)),
        archive_(source_, memory_->file.bytes()),
        copies_left_((std::uint64_t{16} << 20) + 8 * std::uint64_t{memory_->file.bytes().size()}),
        words_left_(copies_left_) {}

  [[nodiscard]] named_tensors run() && {
    locate_pickle();
    if (auto const* order = archive_.find(folder_ + "byteorder")) {
      auto const text = archive_.content(*order);
      expect(text.size() >= 3 && std::memcmp(text.data(), "big", 3) != 0, source_,
             " was saved on a big-endian machine; convert it there");
    }
    auto const pickled = archive_.content(*archive_.find(folder_ + "data.pkl"));
    expect(pickled.size() <= largest_pickle, source_, ": its pickle has ", pickled.size(),
           " bytes, which is more than any model needs");
    graph_ = parse_pickle(source_, pickled, &check_torch_global);
    // A pickle says a shared value once and refers to it; few references take so few bytes that they could unfold to more than this.
    most_values_ = std::min(most_values, 1024 + 16 * pickled.size());
    on_path_.assign(graph_.values.size(), false);
    visit(graph_.root, "", 0);
    return {source_, std::move(tensors_), std::move(metadata_), memory_};
  }

 private:
  static constexpr std::size_t largest_pickle = std::size_t{256} << 20;
  static constexpr std::size_t deepest = 64;
  static constexpr std::size_t most_values = 1'000'000;
  static constexpr std::size_t longest_name = 1024;

  /// Finds "<stem>/data.pkl"; the stem is the name under which the file was first saved.
  void locate_pickle() {
    bool found = false;
    for (auto const& entry : archive_.entries()) {
      std::string_view const name = entry.name;
      bool const script = name.ends_with("/constants.pkl") || name.find("/code/") != std::string_view::npos;
      expect(!script, source_, " is a TorchScript archive; in Python, save torch.jit.load(file).state_dict() instead");
      if (name != "data.pkl" && !name.ends_with("/data.pkl")) continue;
      expect(!found, source_, " is damaged: it holds two files data.pkl");
      found = true;
      folder_ = name.substr(0, name.size() - std::string_view("data.pkl").size());
    }
    expect(found, source_, " is a zip archive but holds no data.pkl, so it was not written by torch.save");
  }

  [[nodiscard]] std::string where(std::string const& name) const { return concat(source_, ": the value '", name, "'"); }

  void visit(pickle_id id, std::string const& name, std::size_t depth) {
    pickle_value const& value = graph_[id];
    expect(++visited_ <= most_values_, source_, " unfolds to more than ", most_values_, " values, which no model needs");
    expect(depth <= deepest, where(name), " is nested deeper than ", deepest, " levels");
    expect(name.size() <= longest_name, source_, ": the keys that lead to a value join to more than ", longest_name, " characters");
    switch (value.kind) {
      case pickle_kind::none:
      case pickle_kind::global:
      case pickle_kind::persistent:
        return;
      case pickle_kind::boolean:
        return add_text(name, value.integer != 0 ? "true" : "false");
      case pickle_kind::integer:
        return add_text(name, concat(value.integer));
      case pickle_kind::real:
        return add_text(name, concat(value.real));
      case pickle_kind::text:
        return add_text(name, value.text);
      default:
        break;
    }
    expect(!on_path_[id], where(name), " contains itself");
    on_path_[id] = true;
    if (value.kind == pickle_kind::dict)
      visit_pairs(value, name, depth);
    else if (value.kind == pickle_kind::call)
      visit_call(value, name, depth);
    else
      visit_items(value, name, depth);
    on_path_[id] = false;
  }

  void visit_items(pickle_value const& value, std::string const& name, std::size_t depth) {
    for (std::size_t i = 0; i < value.items.size(); ++i) visit(value.items[i], join(name, concat(i)), depth + 1);
  }

  void visit_pairs(pickle_value const& value, std::string const& name, std::size_t depth) {
    for (std::size_t i = 0; i + 1 < value.items.size(); i += 2) {
      pickle_value const& key = graph_[value.items[i]];
      bool const number = key.kind == pickle_kind::integer;
      expect(number || key.kind == pickle_kind::text, where(name),
             " is a dictionary with a key that is neither text nor an integer");
      visit(value.items[i + 1], join(name, number ? concat(key.integer) : key.text), depth + 1);
    }
  }

  void visit_call(pickle_value const& call, std::string const& name, std::size_t depth) {
    std::string_view const callee = graph_[call.callee].text;
    auto const& arguments = graph_[call.arguments].items;
    if (callee == "collections.OrderedDict") {
      expect(arguments.empty(), where(name), " is an OrderedDict with arguments, as only Python 2 saved it; save it again");
      visit_pairs(call, name, depth);
    } else if (callee == "torch._utils._rebuild_tensor_v2") {
      add_tensor(arguments, name);
    } else if (callee == "numpy.core.multiarray.scalar" || callee == "numpy._core.multiarray.scalar") {
      add_numpy_scalar(arguments, name);
    } else if (callee == "_codecs.encode" && !arguments.empty()) {
      add_text(name, graph_[arguments[0]].text);
    } else if (callee == "torch._utils._rebuild_parameter" || callee == "torch.Size" || callee.ends_with(".set")) {
      expect(!arguments.empty(), where(name), " is incomplete; the file is damaged");
      visit(arguments[0], name, depth + 1);
    }
  }

  static std::string join(std::string const& name, std::string const& key) { return name.empty() ? key : concat(name, ".", key); }

  /// What was saved without a name, as by torch.save(tensor, file), is called "value".
  static std::string named(std::string const& name) { return name.empty() ? "value" : name; }

  void add_text(std::string const& name, std::string text) {
    take_words(name.size() + text.size());
    metadata_.emplace_back(named(name), std::move(text));
  }

  /// Counts what is copied of names, texts and shapes: a short pickle may refer to a long text again and again.
  void take_words(std::size_t bytes) {
    expect(bytes <= words_left_, source_, ": its keys and texts unfold to far more than the file's size, which no model needs");
    words_left_ -= bytes;
  }

  /// scalar(dtype('f8'), bytes), where Python 3 writes the bytes as encode(text, 'latin1'): one code point, one byte.
  void add_numpy_scalar(std::vector<pickle_id> const& arguments, std::string const& name) {
    expect(arguments.size() == 2 && graph_[arguments[0]].kind == pickle_kind::call, where(name), " is a damaged numpy scalar");
    auto const& type_arguments = graph_[graph_[arguments[0]].arguments].items;
    std::string_view const code = type_arguments.empty() ? std::string_view() : std::string_view(graph_[type_arguments[0]].text);
    pickle_value const& content = graph_[arguments[1]];
    auto const& encoded = graph_[content.arguments].items;
    bool const wrapped = content.kind == pickle_kind::call && !encoded.empty();
    std::string const& bytes = wrapped ? graph_[encoded[0]].text : content.text;
    if (bytes.size() > 16) return;  // of no type below, and nothing to copy for each reference to it
    std::string const raw = wrapped ? latin1(bytes) : bytes;
    for (auto const& [numpy_code, type] :
         {std::pair("f8", dtype::f64), {"f4", dtype::f32}, {"i8", dtype::i64}, {"i4", dtype::i32}}) {
      if (code != numpy_code || raw.size() != dtype_size(type)) continue;
      with_decoder(type, [&](auto decode) { add_text(name, concat(decode(reinterpret_cast<std::byte const*>(raw.data())))); });
    }
  }

  static std::string latin1(std::string_view utf8) {
    std::string bytes;
    for (std::size_t i = 0; i < utf8.size(); ++i) {
      auto const unit = static_cast<unsigned char>(utf8[i]);
      bool const two = (unit == 0xc2 || unit == 0xc3) && i + 1 < utf8.size();
      bytes += two ? static_cast<char>(((unit & 3) << 6) | (utf8[++i] & 0x3f)) : utf8[i];
    }
    return bytes;
  }

  /// _rebuild_tensor_v2(storage, offset, size, stride, ...), offset and strides in elements.
  void add_tensor(std::vector<pickle_id> const& arguments, std::string const& name) {
    expect(arguments.size() >= 4 && graph_[arguments[0]].kind == pickle_kind::persistent, where(name), " is a damaged tensor");
    stored_tensor tensor{named(name), {}, extents(arguments[2], name), {}};
    take_words(name.size() + tensor.shape.size() * sizeof(std::size_t));
    auto const bytes = storage_bytes(graph_[graph_[arguments[0]].arguments], name, tensor.type);
    std::size_t const offset = extent(arguments[1], name);
    auto const strides = extents(arguments[3], name);
    std::size_t const element = dtype_size(tensor.type);
    expect(strides.size() == tensor.shape.size(), where(name), " has ", tensor.shape.size(), " extents but ", strides.size(),
           " strides");
    auto const count = checked_element_count(tensor.shape, element);
    expect(count.has_value(), where(name), ": the shape ", shape_text(tensor.shape), " has more elements than memory can address");
    if (*count != 0) {
      check_view(tensor.shape, strides, offset, bytes.size() / element, name);
      std::byte const* const first = bytes.data() + offset * element;
      tensor.bytes = {first, *count * element};
      if (!is_c_order(tensor.shape, strides)) {
        expect(*count * element <= copies_left_, where(name), ": the views of this file unfold to far more than its size; save ",
               "them after .contiguous()");
        copies_left_ -= *count * element;
        tensor.bytes = memory_->copies.emplace_back(copy_to_c_order(first, tensor.shape, strides, *count, element));
      }
    }
    tensors_.push_back(std::move(tensor));
  }

  void check_view(std::span<std::size_t const> shape, std::span<std::size_t const> strides, std::size_t offset,
                  std::size_t available, std::string const& name) const {
    std::size_t last = offset;
    bool overflow = false;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      std::size_t step = 0;
      overflow |= __builtin_mul_overflow(shape[i] - 1, strides[i], &step);
      overflow |= __builtin_add_overflow(last, step, &last);
    }
    expect(!overflow && last < available, where(name), " views elements outside its storage of ", available,
           " elements; the file is truncated or damaged");
  }

  [[nodiscard]] std::size_t extent(pickle_id id, std::string const& name) const {
    pickle_value const& value = graph_[id];
    expect(value.kind == pickle_kind::integer && value.integer >= 0, where(name),
           " has an extent, stride or offset that is no count");
    return static_cast<std::size_t>(value.integer);
  }

  /// A tuple of counts, plain or wrapped in torch.Size.
  [[nodiscard]] std::vector<std::size_t> extents(pickle_id id, std::string const& name) const {
    pickle_value const* value = &graph_[id];
    if (value->kind == pickle_kind::call && !graph_[value->arguments].items.empty())
      value = &graph_[graph_[value->arguments].items[0]];
    expect(value->kind == pickle_kind::tuple && value->items.size() <= 64, where(name), " has a damaged shape");
    std::vector<std::size_t> out;
    for (pickle_id const item : value->items) out.push_back(extent(item, name));
    return out;
  }

  /// The bytes of ('storage', type, key, location, elements). The location, a device such as "cuda:0", does not matter.
  [[nodiscard]] std::span<std::byte const> storage_bytes(pickle_value const& identifier, std::string const& name,
                                                         dtype& type) const {
    auto const& parts = identifier.items;
    expect(parts.size() == 5 && graph_[parts[0]].text == "storage", where(name), " has a damaged storage");
    std::string const& global = graph_[parts[1]].text;
    auto const known = std::find_if(torch_storage_types.begin(), torch_storage_types.end(),
                                    [&](torch_storage_type const& candidate) { return candidate.global == global; });
    expect(known != torch_storage_types.end(), where(name), " has a storage of the unknown type '", global, "'");
    type = known->type;
    std::string const& key = graph_[parts[2]].text;
    std::size_t const elements = extent(parts[4], name);
    auto const* const entry = archive_.find(concat(folder_, "data/", key));
    expect(entry != nullptr, where(name), " lies in storage '", key, "', which the file does not hold; it is truncated or damaged");
    auto const bytes = archive_.content(*entry);
    expect(bytes.size() / dtype_size(type) >= elements, where(name), " lies in storage '", key, "', which should have ", elements,
           " elements but has ", bytes.size(), " bytes");
    return bytes.first(elements * dtype_size(type));
  }

  std::string source_;
  std::shared_ptr<storage> memory_;
  zip_archive archive_;
  std::string folder_;
  pickle_graph graph_;
  std::vector<bool> on_path_;
  std::size_t visited_ = 0, most_values_ = most_values;
  std::uint64_t copies_left_, words_left_;
  std::vector<stored_tensor> tensors_;
  named_tensors::text_pairs metadata_;
};

inline named_tensors read_pth(std::filesystem::path const& path) {
  std::string source = path.string();
  auto memory = std::make_shared<pth_flattener::storage>(pth_flattener::storage{mapped_file(path), {}});
  auto const bytes = memory->file.bytes();
  bool const bare_pickle = bytes.size() >= 2 && bytes[0] == std::byte{0x80} && bytes[1] <= std::byte{5};
  expect(!bare_pickle, source,
         " has the format of torch before 1.6, or is a plain pickle; load it in Python and save it again with ", "torch >= 1.6");
  return pth_flattener(std::move(source), std::move(memory)).run();
}

}  // namespace detail

/// A file of torch.save (torch >= 1.6). Nested dictionaries, lists and tuples are flattened: tensors and, as metadata,
/// numbers and texts are named by their keys joined with '.', such as "optimizer.state.0.exp_avg"; None is left out.
/// Views are resolved to C order. Throws a sentence that names the file for anything else than plain tensors and values:
/// other Python objects, TorchScript, sparse or quantised tensors, files older than torch 1.6, truncated or damaged ones.
class pth_file : public named_tensors {
 public:
  explicit pth_file(std::filesystem::path const& path) : named_tensors(detail::read_pth(path)) {}
};

}  // namespace dvla::inline DVLA_ABI
