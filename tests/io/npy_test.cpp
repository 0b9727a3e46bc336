#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include <dvla/io/npy.hpp>

#include "io_support.hpp"

using namespace dvla;
using namespace dvla_test;

TEST_CASE("arrays of numpy are read in both orders, both byte orders and every version") {
  npy_file const fortran(fixture("fortran.npy"));
  CHECK(fortran.tensor().shape == std::vector<std::size_t>{2, 3, 4});
  CHECK(fortran.tensor().name == "fortran");
  std::vector<float> ramp(24);
  std::iota(ramp.begin(), ramp.end(), 0.0f);
  CHECK(read_as<float>(fortran.tensor()) == ramp);
  CHECK(read_as<int>(npy_file(fixture("big_endian.npy")).tensor()) == std::vector<int>{0, 1, 2, 3, 4, 5});
  for (auto const* name : {"version2.npy", "version3.npy"})
    CHECK(read_as<int>(npy_file(fixture(name)).tensor()) == std::vector<int>{0, 1, 2});
  npy_file const scalar(fixture("scalar.npy"));
  CHECK(scalar.tensor().shape.empty());
  CHECK(read_as<float>(scalar.tensor()) == std::vector<float>{1.5f});
  npy_file const empty(fixture("empty.npy"));
  CHECK(empty.tensor().shape == std::vector<std::size_t>{0, 3});
  CHECK(empty.tensor().type == dtype::boolean);
}

TEST_CASE("the arrays of an uncompressed .npz are found by name, and a compressed one is refused with the remedy") {
  npz_file const file(fixture("arrays.npz"));
  CHECK(read_as<int>(file.find("x")) == std::vector<int>{0, 1, 2});
  CHECK(file.find("y").shape == std::vector<std::size_t>{2, 3, 4});
  CHECK(read_as<int>(file.find("y"))[5] == 5);
  CHECK(has(message_of([] { npz_file const packed(fixture("compressed.npz")); }), "save the file again without compression"));
  CHECK(has(message_of([] { npz_file const foreign(fixture("plain.pth")); }), "which is no .npy array"));
}

TEST_CASE("what is written has the bytes that numpy writes") {
  scratch_folder const folder;
  std::size_t const shape[] = {2, 3};
  write_npy<float>(folder / "x.npy", shape, std::vector<float>{0, 1, 2, 3, 4, 5});
  std::string const header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  std::string const bytes = read_bytes(folder / "x.npy");
  CHECK(bytes.substr(0, 10) == std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  CHECK(bytes.substr(10, 118) == header + std::string(117 - header.size(), ' ') + "\n");
  CHECK(bytes.size() == 128 + 24);
}

TEST_CASE("arrays of every rank are read back as written") {
  scratch_folder const folder;
  for (std::vector<std::size_t> const& shape : {std::vector<std::size_t>{}, {3}, {0}, {2, 0, 3}, {1, 3, 2, 1}}) {
    std::vector<std::int16_t> values(std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>()));
    std::iota(values.begin(), values.end(), std::int16_t{-1});
    write_npy<std::int16_t>(folder / "x.npy", shape, values);
    npy_file const back(folder / "x.npy");
    CHECK(back.tensor().shape == shape);
    CHECK(read_as<std::int16_t>(back.tensor()) == values);
  }
  std::size_t const two[] = {2};
  CHECK(has(message_of([&] { write_npy<float>(folder / "y.npy", two, std::vector<float>{1}); }),
            "1 numbers do not fill the shape (2)"));
  CHECK(folder.files() == 1);
}

TEST_CASE("arrays of objects and records, and damaged headers, are refused") {
  CHECK(has(message_of([] { npy_file const file(fixture("objects.npy")); }), "numpy type '|O'"));
  CHECK(has(message_of([] { npy_file const file(fixture("structured.npy")); }), "structured array"));
  scratch_folder const folder;
  auto const open = [&](std::string const& header) {
    write_bytes(folder / "x.npy",
                std::string("\x93NUMPY\x01\x00", 8) + raw(static_cast<std::uint16_t>(header.size())) + header + "1234");
    return message_of([&] { npy_file const file(folder / "x.npy"); });
  };
  CHECK(open("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }") == "no error");
  CHECK(open("{'shape':(),'fortran_order':True,'descr':'=i4'}") == "no error");
  CHECK(has(open("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"), "truncated or damaged"));
  CHECK(has(open("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967297), }"), "truncated or damaged"));
  CHECK(has(open("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }"), "no tuple of counts"));
  CHECK(has(open("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }"), "no True or False"));
  CHECK(has(open("{'descr': '<f4', 'shape': (1,), }"), "not the three keys"));
  CHECK(has(open("{'descr': '<f4"), "a text without end"));
  CHECK(has(open("{'key': 1}"), "an unknown key 'key'"));
  CHECK(has(open("__import__('os')"), "no '{'"));
}

TEST_CASE("an array cut at any byte is refused, and flipped bits end in an error or a readable array") {
  scratch_folder const folder;
  std::string const whole = read_bytes(fixture("fortran.npy"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(folder / "cut", std::string_view(whole).substr(0, size));
    CHECK_THROWS_AS(npy_file(folder / "cut"), dvla::error);
  }
  std::size_t refused = 0;
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    write_bytes(folder / "flipped", bytes);
    refused += message_of([&] { (void)sum_of_all(npy_file(folder / "flipped")); }) != "no error";
  }
  CHECK(refused > 300);
  CHECK(refused < whole.size() * 8);
}
