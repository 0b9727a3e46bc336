// The reader of safetensors: whole files, and headers to which their length is added, so that changes of length reach the parser.
#include <dvla/io/safetensors.hpp>

#include "input_file.hpp"
#include "io/io_support.hpp"
#include "tensors.hpp"

void dvla_fuzz::try_input(std::string_view bytes) {
  static input_file const file("input.safetensors");
  if (!bytes.starts_with('{')) return try_tensors(dvla::safetensors_file(file(bytes)));
  auto const end = std::min(bytes.find('\0'), bytes.size());  // the data follow a byte 0
  std::string whole = dvla_test::raw(std::uint64_t{end});
  whole += bytes.substr(0, end);
  whole += bytes.substr(std::min(end + 1, bytes.size()));
  try_tensors(dvla::safetensors_file(file(whole)));
}

std::vector<std::string> dvla_fuzz::seeds() {
  std::string const a = R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]})";
  std::string const b = R"("model.b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]})";
  std::string const c = R"("c":{"dtype":"I64","shape":[0,3],"data_offsets":[8,8]})";
  return {dvla_test::read_bytes(dvla_test::fixture("reference.safetensors")), "{" + a + "}" + '\0' + "12345678",
          R"({"__metadata__":{"k":"v"},)" + a + "," + c + "," + b + "}" + '\0' + "1234567890"};
}
