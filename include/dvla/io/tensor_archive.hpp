// One door to tensor files of either format.
#pragma once

#include <filesystem>
#include <string_view>

#include <dvla/core/config.hpp>
#include <dvla/io/mapped_file.hpp>
#include <dvla/io/named_tensors.hpp>
#include <dvla/io/pth.hpp>
#include <dvla/io/safetensors.hpp>

namespace dvla::inline DVLA_ABI {

/// Tensors by name, from whatever format they came.
using tensor_archive = named_tensors;

/// Opens a safetensors or PyTorch file; the content decides, not the name. Throws what their readers throw.
[[nodiscard]] inline tensor_archive open_tensors(std::filesystem::path const& path) {
  bool pytorch = false;
  {
    mapped_file const file(path);
    auto const bytes = file.bytes();
    std::string_view const text(reinterpret_cast<char const*>(bytes.data()), bytes.size());
    // The header of safetensors begins at byte 8; neither a zip archive nor a pickle of torch < 1.6 has a brace there.
    pytorch = (text.starts_with("PK") || text.starts_with('\x80')) && !(text.size() > 8 && text[8] == '{');
  }
  if (pytorch) return pth_file(path);
  return safetensors_file(path);
}

}  // namespace dvla::inline DVLA_ABI
