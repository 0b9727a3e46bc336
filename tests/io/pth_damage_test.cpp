#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include <dvla/io/pth.hpp>

#include "io_support.hpp"

namespace {

using namespace dvla;
using namespace dvla_test;

/// A file with this pickle and a storage '0' of 16 bytes.
named_tensors open_pickle(std::string const& pickle, scratch_folder const& folder) {
  write_bytes(folder / "x.pth", make_zip({{"x/data.pkl", "\x80\x02" + pickle}, {"x/data/0", std::string(16, '\0')}}));
  return pth_file(folder / "x.pth");
}

std::string refusal(std::string const& pickle) {
  scratch_folder const folder;
  return message_of([&] { (void)sum_of_all(open_pickle(pickle, folder)); });
}

std::string text(std::string const& value) { return "X" + raw(static_cast<std::uint32_t>(value.size())) + value; }

std::string number(std::int64_t value) { return std::string("\x8a\x08", 2) + raw(value); }

std::string tuple(std::vector<std::int64_t> const& values) {
  std::string out = "(";
  for (auto const value : values) out += number(value);
  return out + "t";
}

/// A float tensor over a storage that the pickle says has so many elements.
std::string tensor(std::int64_t offset, std::vector<std::int64_t> const& shape, std::vector<std::int64_t> const& strides,
                   std::int64_t elements = 4, std::string const& key = "0") {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" + text(key) + text("cuda:0") +
         number(elements) + "tQ" + number(offset) + tuple(shape) + tuple(strides) + "\x89Nt" + "R";
}

}  // namespace

TEST_CASE("a hand-made tensor is read, so the refusals below are due to what they change") {
  scratch_folder const folder;
  CHECK(read_as<float>(open_pickle(tensor(0, {4}, {1}) + ".", folder).find("value")) == std::vector<float>(4, 0.0f));
}

TEST_CASE("a pickle that would run a command is refused and names it") {
  std::string const message = message_of([] { pth_file const file(fixture("malicious.pth")); });
  CHECK(has(message, "malicious.pth asks for the Python object 'posix.system', which this reader refuses to construct"));
  CHECK(has(refusal("cos\nsystem\n" + text("true") + "\x85R."), "'os.system'"));
  CHECK(has(refusal(text("builtins") + text("eval") + "\x93."), "'builtins.eval'"));
}

TEST_CASE("what the reader does not support is refused with the remedy") {
  auto const message = [](std::string const& name) { return message_of([&] { pth_file const file(fixture(name)); }); };
  CHECK(has(message("legacy.pth"), "save it again with torch >= 1.6"));
  CHECK(has(message("torchscript.pt"), "save torch.jit.load(file).state_dict() instead"));
  CHECK(has(message("sparse.pth"), "save it again after .to_dense()"));
  CHECK(has(message("cyclic.pth"), "the value 'self' contains itself"));
  CHECK(has(message("reference.safetensors"), "no zip archive"));
}

TEST_CASE("a view outside its storage is refused, also where its place overflows") {
  for (auto const& bad : {tensor(1, {4}, {1}), tensor(0, {5}, {1}), tensor(0, {2, 2}, {4, 1}), tensor(INT64_MAX, {1}, {1}),
                          tensor(0, {2, 2}, {INT64_MAX, INT64_MAX}), tensor(1, {2}, {INT64_MAX})})
    CHECK(has(refusal(bad + "."), "views elements outside its storage of 4 elements"));
  CHECK(has(refusal(tensor(0, {1 << 30, 1 << 30, 1 << 30}, {0, 0, 0}) + "."), "more elements than memory can address"));
  CHECK(has(refusal(tensor(0, {1 << 20, 1 << 20}, {0, 0}) + "."), "unfold to far more than its size"));
  CHECK(has(refusal(tensor(0, {5 << 20}, {0}) + "."), "unfold to far more than its size"));
  std::vector<std::int64_t> many(60, 1), none(60, 0);  // axes that cost nothing
  many[7] = 1 << 20;
  CHECK(refusal(tensor(0, many, none) + ".") == "no error");
  CHECK(has(refusal(tensor(-1, {1}, {1}) + "."), "that is no count"));
  CHECK(has(refusal(tensor(0, {4}, {-1}) + "."), "that is no count"));
  CHECK(has(refusal(tensor(0, {4}, {1, 1}) + "."), "1 extents but 2 strides"));
  CHECK(has(refusal(tensor(0, {5}, {1}, 5) + "."), "should have 5 elements but has 16 bytes"));
  CHECK(has(refusal(tensor(0, {4}, {1}, 4, "1") + "."), "storage '1', which the file does not hold"));
}

TEST_CASE("an empty tensor needs no element of its storage") {
  scratch_folder const folder;
  auto const file = open_pickle(tensor(0, {0, 512}, {512, 1}, 0) + ".", folder);
  CHECK(file.find("value").shape == std::vector<std::size_t>{0, 512});
}

TEST_CASE("absurdly deep, wide or long structures are refused before they cost memory") {
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "]";
  CHECK(has(refusal(deep + std::string(99, 'a') + "."), "nested deeper than 64 levels"));
  // Twenty-five lists, each holding the one before twice: 2^25 values when unfolded.
  auto const doubled = [](std::string const& first, char times) {
    std::string out = first + "q" + std::string(1, '\0');
    for (char i = 1; i <= times; ++i) {
      std::string const before = "h" + std::string(1, static_cast<char>(i - 1));
      out += "](" + before + before + "eq" + i;
    }
    return out + ".";
  };
  CHECK(has(refusal(doubled("]K\1a", 25)), "unfolds to more than"));
  CHECK(has(refusal(doubled(text("t"), 12)), "unfolds to more than"));  // few bytes, few values
  CHECK(refusal(doubled(text("t"), 8)) == "no error");
  CHECK(has(refusal(doubled(text(std::string(20000, 't')), 13)), "keys and texts unfold to far more"));
  CHECK(has(refusal("}" + text(std::string(2000, 'k')) + "K\1s."), "join to more than 1024 characters"));
  CHECK(
      has(refusal("}" + text("a") + tensor(0, {4}, {1}) + "s" + text("a") + tensor(0, {4}, {1}) + "s."), "two tensors named 'a'"));
  CHECK(has(refusal("}NK\1s."), "neither text nor an integer"));
}

TEST_CASE("a damaged pickle is refused") {
  CHECK(has(refusal(""), "truncated or damaged"));
  CHECK(has(refusal("."), "ends without a value"));
  CHECK(has(refusal("R."), "empty stack"));
  CHECK(has(refusal("]K\1K\1(a."), "empty stack"));
  CHECK(has(refusal("t."), "lacks a mark"));
  CHECK(has(refusal("h\5."), "has not stored"));
  CHECK(has(refusal("K\1K\2a."), "takes none"));
  CHECK(has(refusal("}(K\1u."), "takes none"));
  CHECK(has(refusal("K\1)R."), "no named function"));
  CHECK(has(refusal("i"), "opcode 105"));
  CHECK(has(refusal(std::string("\x8a\x09", 2) + std::string(9, '\0') + "."), "integer of 9 bytes"));
  CHECK(has(refusal("\x80\x09N."), "protocol 9"));
  CHECK(has(refusal("X" + raw(0xffffffffu) + "abc"), "truncated or damaged"));
}

TEST_CASE("zip64 archives are read; compressed, empty and foreign archives are refused") {
  scratch_folder const folder;
  std::string const pickle = "\x80\x02" + tensor(0, {4}, {1}) + ".";
  auto const open = [&](std::string const& bytes) {
    write_bytes(folder / "x.pth", bytes);
    return message_of([&] { (void)sum_of_all(pth_file(folder / "x.pth")); });
  };
  CHECK(open(make_zip({{"x/data.pkl", pickle}, {"x/data/0", std::string(16, '\0')}}, 0, true)) == "no error");
  CHECK(has(open(make_zip({{"x/data.pkl", pickle}}, 8)), "'x/data.pkl' is compressed"));
  CHECK(has(open(make_zip({})), "holds no data.pkl"));
  CHECK(has(open(make_zip({{"readme", "text"}})), "holds no data.pkl"));
  CHECK(has(open(make_zip({{"x/data.pkl", pickle}, {"x/data.pkl", pickle}})), "two entries named"));
  CHECK(has(open(make_zip({{"x/data.pkl", pickle}, {"x/byteorder", "big"}})), "big-endian"));
}

TEST_CASE("a file cut at any byte is refused") {
  scratch_folder const folder;
  std::string const whole = read_bytes(fixture("bank.pth"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(folder / "cut", std::string_view(whole).substr(0, size));
    CHECK_THROWS_AS(pth_file(folder / "cut"), dvla::error);
  }
}

TEST_CASE("random flips of bits end in an error or in a readable file") {
  scratch_folder const folder;
  std::size_t refused = 0;
  for (auto const* name : {"checkpoint.pth", "views.pth", "bank.pth"}) {
    std::string const whole = read_bytes(fixture(name));
    for (std::uint64_t round = 0; round < 2000; ++round) {
      std::string bytes = whole;
      for (std::uint64_t flip = 0; flip <= round % 3; ++flip) {
        std::uint64_t const bit = (round * 3 + flip) * 0x9e3779b97f4a7c15u >> 20;
        bytes[bit / 8 % bytes.size()] = static_cast<char>(bytes[bit / 8 % bytes.size()] ^ (1 << bit % 8));
      }
      write_bytes(folder / "flipped", bytes);
      // Converted to double, so that any element is legal: flips in the data themselves do not show.
      refused += message_of([&] { (void)sum_of_all(pth_file(folder / "flipped")); }) != "no error";
    }
  }
  CHECK(refused > 1000);
  CHECK(refused < 6000);
}
