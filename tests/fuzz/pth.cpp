// The reader of PyTorch's files: whole files, and pickles (they begin with the byte 0x80) that are put into an archive with storages,
// so that changes of length reach the machine that reads them.
#include <dvla/io/pth.hpp>

#include "input_file.hpp"
#include "io/io_support.hpp"
#include "tensors.hpp"

void dvla_fuzz::try_input(std::string_view bytes) {
  static input_file const file("input.pth");
  if (!bytes.starts_with('\x80')) return try_tensors(dvla::pth_file(file(bytes)));
  std::vector<std::pair<std::string, std::string>> entries{{"x/data.pkl", std::string(bytes)}};
  for (char const storage : std::string_view("0123456789")) entries.emplace_back(std::string("x/data/") + storage, std::string(96, '\1'));
  try_tensors(dvla::pth_file(file(dvla_test::make_zip(entries))));
}

std::vector<std::string> dvla_fuzz::seeds() {
  std::vector<std::string> out;
  for (auto const* name : {"bank.pth", "checkpoint.pth", "cyclic.pth", "dtypes.pth", "legacy.pth", "malicious.pth", "module.pth",
                           "plain.pth", "sparse.pth", "torchscript.pt", "views.pth"}) {
    out.push_back(dvla_test::read_bytes(dvla_test::fixture(name)));
    auto const& whole = out.back();
    try {  // and its pickle alone
      dvla::zip_archive const archive(name, std::as_bytes(std::span(whole)));
      for (auto const& entry : archive.entries()) {
        auto const content = archive.content(entry);
        if (entry.name.ends_with("/data.pkl")) out.emplace_back(reinterpret_cast<char const*>(content.data()), content.size());
      }
    } catch (dvla::error const&) {  // some are no archives, on purpose
    }
  }
  return out;
}
