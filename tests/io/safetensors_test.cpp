#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <vector>

#include <dvla/io/safetensors.hpp>

#include "io_support.hpp"

using namespace dvla;
using namespace dvla_test;

TEST_CASE("a file of the reference implementation is read in every type") {
  safetensors_file const file(fixture("reference.safetensors"));
  CHECK(file.tensors().size() == 13);
  CHECK(file.metadata("format") == "pt");
  CHECK(!file.metadata("author"));
  CHECK(file.find("b.f32").shape == std::vector<std::size_t>{2, 3});
  CHECK(read_as<float>(file.find("b.f32")) == std::vector<float>{0, 1, 2, 3, 4, 5});
  CHECK(file.find("a.f32").shape.empty());
  CHECK(read_as<double>(file.find("a.f32")) == std::vector<double>{0});
  CHECK(file.find("empty").shape == std::vector<std::size_t>{0, 3});
  CHECK(read_as<float>(file.find("empty")).empty());
  for (auto const* name : {"half", "brain", "byte"}) CHECK(read_as<float>(file.find(name)) == std::vector<float>{0, 1, 2});
  for (auto const* name : {"long", "double", "flag"}) CHECK(read_as<int>(file.find(name)) == std::vector<int>{0, 1});
  for (auto const* name : {"char", "short", "int"}) CHECK(read_as<int>(file.find(name)) == std::vector<int>{0});
  CHECK(file.contains("näme \"quoted\""));
}

TEST_CASE("what is written has the very bytes of the reference implementation, in whatever order it was added") {
  scratch_folder const folder;
  safetensors_file const file(fixture("reference.safetensors"));
  safetensors_writer writer;
  for (std::size_t i = file.tensors().size(); i-- > 0;) {
    auto const& tensor = file.tensors()[i];
    writer.add(tensor.name, tensor.type, tensor.shape, tensor.bytes);
  }
  writer.metadata("format", "pt");
  writer.write(folder / "again.safetensors");
  CHECK(read_bytes(folder / "again.safetensors") == read_bytes(fixture("reference.safetensors")));
  CHECK(folder.files() == 1);
}

TEST_CASE("every bit survives a round trip, NaN payloads included") {
  scratch_folder const folder;
  std::vector<float> const values{std::bit_cast<float>(0x7fc12345u), std::bit_cast<float>(0xff800001u), -0.0f, 0x1p-149f};
  safetensors_writer writer;
  writer.add<float>("x", {2, 2}, values);
  writer.write(folder / "x.safetensors");
  auto const back = read_as<float>(safetensors_file(folder / "x.safetensors").find("x"));
  REQUIRE(back.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::bit_cast<std::uint32_t>(back[i]) == std::bit_cast<std::uint32_t>(values[i]));
}

TEST_CASE("a file without tensors, and an empty tensor among others, are read back") {
  scratch_folder const folder;
  safetensors_writer().write(folder / "none.safetensors");
  safetensors_file const none(folder / "none.safetensors");
  CHECK(none.tensors().empty());
  CHECK(has(message_of([&] { (void)none.find("x"); }), "holds no tensor at all"));

  safetensors_writer writer;
  writer.add<float>("empty", {0, 512}, {});
  writer.add<double>("one", {}, std::vector<double>{2.5});
  writer.write(folder / "two.safetensors");
  safetensors_file const two(folder / "two.safetensors");
  CHECK(two.find("empty").shape == std::vector<std::size_t>{0, 512});
  CHECK(read_as<double>(two.find("one")) == std::vector<double>{2.5});
}

TEST_CASE("the data begin at a multiple of eight bytes for every length of name") {
  scratch_folder const folder;
  for (std::size_t length = 1; length <= 9; ++length) {
    safetensors_writer writer;
    writer.add<float>(std::string(length, 'n'), {1}, std::vector<float>{1});
    writer.write(folder / "x.safetensors");
    CHECK(read_bytes(folder / "x.safetensors").size() % 8 == 4);
    CHECK(safetensors_file(folder / "x.safetensors").contains(std::string(length, 'n')));
  }
}

TEST_CASE("a missing tensor is reported with the file and the nearest names") {
  safetensors_file const file(fixture("reference.safetensors"));
  std::string const message = message_of([&] { (void)file.find("b.f23"); });
  CHECK(has(message, "reference.safetensors has no tensor 'b.f23'; the nearest of its 13 names: 'b.f32', 'a.f32'"));
}

TEST_CASE("copies of the tensors outlive the file object") {
  auto const copy = [] { return named_tensors(safetensors_file(fixture("reference.safetensors"))); }();
  CHECK(read_as<float>(copy.find("b.f32")).back() == 5.0f);
}

TEST_CASE("the writer refuses names twice, bytes that do not fill the shape, and names that are not UTF-8") {
  scratch_folder const folder;
  std::vector<float> const two{1, 2};
  safetensors_writer writer;
  writer.add<float>("x", {2}, two);
  CHECK(has(message_of([&] { writer.add<float>("x", {2}, two); }), "'x' was added to the file twice"));
  CHECK(has(message_of([&] { writer.add<float>("y", {3}, two); }), "'y' of shape (3) and type F32 was given 8 bytes"));
  CHECK(has(message_of([&] { writer.add<float>("__metadata__", {2}, two); }), "reserves that name"));
  writer.add<float>("\xff", {2}, two);
  CHECK(has(message_of([&] { writer.write(folder / "x.safetensors"); }), "not valid UTF-8"));
  CHECK(folder.files() == 0);
}
