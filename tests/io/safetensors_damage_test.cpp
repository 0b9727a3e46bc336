#include <doctest/doctest.h>

#include <chrono>
#include <string>

#include <dvla/io/safetensors.hpp>

#include "io_support.hpp"

namespace {

using namespace dvla;
using namespace dvla_test;

/// The message with which a file of this header and these many bytes of data is refused.
std::string refusal(std::string const& header, std::size_t data = 8) {
  scratch_folder const folder;
  write_bytes(folder / "x.safetensors", raw<std::uint64_t>(header.size()) + header + std::string(data, '\1'));
  std::string const message = message_of([&] { safetensors_file const file(folder / "x.safetensors"); });
  CHECK((message == "no error" || has(message, "x.safetensors")));
  return message;
}

}  // namespace

TEST_CASE("headers that break the rules of safetensors are refused with the reason") {
  CHECK(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})") == "no error");
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"), "neither holes nor overlaps"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})"), "belongs to no tensor"));
  CHECK(
      has(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
          "neither holes nor overlaps"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})"), "takes 12 bytes, but its offsets give 8"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})"), "truncated or damaged"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})"), "truncated or damaged"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})"), "more elements than memory"));
  CHECK(has(refusal(R"({"a":{"dtype":"F64","shape":[2305843009213693953],"data_offsets":[0,8]}})"), "more elements than memory"));
  CHECK(has(refusal(R"({"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}})"), "convert it to F32"));
  CHECK(has(refusal(R"({"a":{"dtype":7,"shape":[8],"data_offsets":[0,8]}})"), "has the dtype 7"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})"), "non-negative integer"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})"), "non-negative integer"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})"), "must be a list"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})"), "list of two numbers"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","shape":[2]}})"), "exactly the keys"));
  CHECK(has(refusal(R"({"a":3})"), "exactly the keys"));
}

TEST_CASE("duplicate names, deep nesting, wrong metadata and broken JSON are refused") {
  std::string const entry = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  CHECK(has(refusal("{" + entry + "," + entry + "}"), "names 'a' twice"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})"), "names 'dtype' twice"));
  CHECK(has(refusal(R"({"__metadata__":{"k":1},)" + entry + "}"), "metadata 'k' must be a string"));
  CHECK(has(refusal(R"({"__metadata__":[],)" + entry + "}"), "must be an object of strings"));
  CHECK(has(refusal(R"({"a":[[[[[[1]]]]]]})"), "nested deeper"));
  CHECK(has(refusal(R"({"a":)" + std::string(100000, '[')), "nested deeper"));
  CHECK(has(refusal(R"({"a":{"dtype":"F32")"), "not valid JSON"));
  CHECK(has(refusal("{\"\xff\":3}"), "not valid JSON"));
  CHECK(has(refusal("[]"), "does not begin with '{'"));
  CHECK(has(refusal(""), "does not begin with '{'"));
}

TEST_CASE("the time for a header grows with its length, not with its square") {
  std::string header;
  for (int i = 0; i < 30000; ++i) {
    header += (i == 0 ? "{" : ",") + ("\"t" + std::to_string(i) + "\":");
    header += R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  auto const start = std::chrono::steady_clock::now();
  CHECK(refusal(header + "}", 0) == "no error");
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));  // it takes a tenth of one
}

TEST_CASE("an absent, empty, short or huge-headed file and a folder are refused") {
  scratch_folder const folder;
  auto const open = [&](std::string const& bytes) {
    write_bytes(folder / "x", bytes);
    return message_of([&] { safetensors_file const file(folder / "x"); });
  };
  CHECK(has(open(""), "it has 0 bytes"));
  CHECK(has(open("1234567"), "it has 7 bytes"));
  CHECK(has(open(raw<std::uint64_t>(100) + "{}"), "is truncated: its header has 100 bytes, but only 2 follow"));
  CHECK(has(open(raw<std::uint64_t>(100'000'001) + "{}"), "above the format's limit"));
  CHECK(has(open(raw<std::uint64_t>(~std::uint64_t{0}) + "{}"), "above the format's limit"));
  CHECK(has(message_of([&] { safetensors_file const file(folder / "absent"); }), "cannot open"));
  CHECK(has(message_of([&] { safetensors_file const file(folder / ""); }), "not a regular file"));
}

TEST_CASE("a file cut at any byte is refused") {
  scratch_folder const folder;
  std::string const whole = read_bytes(fixture("reference.safetensors"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(folder / "cut", std::string_view(whole).substr(0, size));
    CHECK_THROWS_AS(safetensors_file(folder / "cut"), dvla::error);
  }
}

TEST_CASE("random flips of bits end in an error or in a readable file") {
  scratch_folder const folder;
  std::string const whole = read_bytes(fixture("reference.safetensors"));
  std::size_t refused = 0;
  for (std::uint64_t round = 0; round < 3000; ++round) {
    std::string bytes = whole;
    for (std::uint64_t flip = 0; flip <= round % 3; ++flip) {
      std::uint64_t const bit = (round * 3 + flip) * 0x9e3779b97f4a7c15u >> 20;
      bytes[bit / 8 % bytes.size()] = static_cast<char>(bytes[bit / 8 % bytes.size()] ^ (1 << bit % 8));
    }
    write_bytes(folder / "flipped", bytes);
    std::string const message = message_of([&] { (void)sum_of_all(safetensors_file(folder / "flipped")); });
    refused += message != "no error";
  }
  CHECK(refused > 1000);
  CHECK(refused < 3000);
}
