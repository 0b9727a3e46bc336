#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include <dvla/io/atomic_file.hpp>

#include "io_support.hpp"

namespace {

using namespace dvla;
using namespace dvla_test;

/// Lets no file of this process grow beyond so many bytes, as a full device would.
class file_size_limit {
 public:
  explicit file_size_limit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit const limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  file_size_limit(file_size_limit const&) = delete;
  file_size_limit& operator=(file_size_limit const&) = delete;
  ~file_size_limit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("a file is replaced as a whole and nothing else is left in its folder") {
  scratch_folder const folder;
  write_atomically(folder / "x.txt", "first");
  write_atomically(folder / "x.txt", "second");
  CHECK(read_bytes(folder / "x.txt") == "second");
  write_atomically(folder / "empty", "");
  CHECK(read_bytes(folder / "empty").empty());
  CHECK(folder.files() == 2);
}

TEST_CASE("without commit the old content stays and no temporary file is left") {
  scratch_folder const folder;
  write_atomically(folder / "x.txt", "old");
  {
    atomic_file file(folder / "x.txt");
    file.append("half of the n");
    CHECK(folder.files() == 2);
  }
  CHECK(read_bytes(folder / "x.txt") == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("a missing folder is named in the error") {
  scratch_folder const folder;
  std::string const message = message_of([&] { write_atomically(folder / "no/such/x.txt", "text"); });
  CHECK(has(message, "no/such/x.txt: No such file or directory (its folder must exist and be writable)"));
}

TEST_CASE("a write that fails half way keeps the old file and leaves no temporary one") {
  scratch_folder const folder;
  write_atomically(folder / "x.txt", "old");
  std::string message;
  {
    file_size_limit const limit(1000);
    message = message_of([&] { write_atomically(folder / "x.txt", std::string(5000, 'x')); });
  }
  CHECK(has(message, "x.txt: File too large (is there space left on the device?)"));
  CHECK(read_bytes(folder / "x.txt") == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("a target that is a folder or a device is refused and no temporary file is left") {
  scratch_folder const folder;
  fs::create_directory(folder / "taken");
  CHECK(has(message_of([&] { write_atomically(folder / "taken", "text"); }), "taken: it is there and is no file; give another name"));
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);  // stands for devices
  fs::create_symlink("pipe", folder / "link");
  for (char const* const name : {"pipe", "link"})
    CHECK(has(message_of([&] { write_atomically(folder / name, "text"); }), "it is there and is no file"));
  CHECK(fs::is_fifo(folder / "pipe"));
  CHECK(folder.files() == 3);
}
