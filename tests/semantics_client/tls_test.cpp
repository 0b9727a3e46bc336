// Certificates: one for another host, one from nobody known, and, to see that it is the certificate, a good one.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <array>

#include <doctest/doctest.h>

#include "fixture.hpp"
#include "test_server.hpp"

using namespace dvla_test;

namespace {

/// A program that runs in the background, silently, until this goes away.
class background {
 public:
  explicit background(std::vector<std::string> words) {
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    for (int const file : {0, 1, 2})
      ::posix_spawn_file_actions_addopen(&actions, file, "/dev/null", file == 0 ? O_RDONLY : O_WRONLY, 0);
    if (::posix_spawnp(&process_, arguments[0], &actions, nullptr, arguments.data(), environ) != 0) process_ = -1;
    ::posix_spawn_file_actions_destroy(&actions);
  }
  background(background&&) = delete;
  ~background() {
    if (process_ <= 0) return;
    ::kill(process_, SIGTERM);
    wait();
  }
  /// Its exit status.
  int wait() {
    int status = -1;
    if (process_ > 0) ::waitpid(process_, &status, 0);
    process_ = -1;
    return status;
  }

 private:
  pid_t process_ = -1;
};

/// A certificate that signs itself, for these names; false without the command openssl.
bool make_certificate(std::filesystem::path const& folder, std::string const& names) {
  background make({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                   "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=test", "-addext",
                   "subjectAltName=" + names});
  return make.wait() == 0;
}

/// A port that was free a moment ago.
std::string free_port() {
  test_server const server({answer(200, "")});
  std::string const url = server.url();
  return url.substr(17, url.rfind('/') - 17);
}

struct outcome {
  dvla::http_end end;
  std::string error;  ///< of a whole client
};

/// Gets a page of `openssl s_server`, which serves TLS with the folder's certificate; then asks it with a client.
outcome call(std::filesystem::path const& folder, std::string const& ca_file) {
  std::string const port = free_port();
  background const server(
      {"openssl", "s_server", "-accept", port, "-www", "-key", folder / "key.pem", "-cert", folder / "cert.pem", "-quiet"});
  dvla::http_client http({ca_file, std::chrono::milliseconds(2'000), 1 << 20});
  std::array<std::string, 0> const no_headers{};
  outcome out{dvla::http_end::unreachable, {}};
  for (int tries = 0; out.end == dvla::http_end::unreachable && tries < 300; ++tries) {
    out.end = http.get("https://127.0.0.1:" + port + "/", no_headers, std::chrono::milliseconds(2'000)).end;
    if (out.end == dvla::http_end::unreachable) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  auto options = client_options("https://127.0.0.1:" + port + "/v1");
  options.ca_file = ca_file;
  options.retry.tries = 1;
  options.call_timeout = std::chrono::milliseconds(500);
  dvla::chat_generator client(options);
  std::vector const questions{question()};
  out.error = error_of([&] { static_cast<void>(client.generate(questions)); });
  return out;
}

}  // namespace

TEST_CASE("tls: a certificate for another host is refused, and so is one from nobody known") {
  temporary_folder const folder;
  if (!make_certificate(folder.path(), "DNS:wrong.example")) {
    MESSAGE("skipped: the command openssl is not there");
    return;
  }
  auto const wrong_name = call(folder.path(), folder.path() / "cert.pem");
  CHECK(wrong_name.end == dvla::http_end::untrusted);
  CHECK(contains(wrong_name.error, " cannot be asked: "));
  CHECK(contains(wrong_name.error, "check the address, or give the file of its certificate authority"));

  REQUIRE(make_certificate(folder.path(), "IP:127.0.0.1"));
  auto const unknown = call(folder.path(), "");
  CHECK(unknown.end == dvla::http_end::untrusted);
  CHECK(contains(unknown.error, " cannot be asked: "));

  auto const good = call(folder.path(), folder.path() / "cert.pem");
  CHECK(good.end == dvla::http_end::answered);
  CHECK_FALSE(contains(good.error, "cannot be asked"));

  auto const no_file = call(folder.path(), folder.path() / "missing.pem");
  CHECK(no_file.end == dvla::http_end::unusable);
}
