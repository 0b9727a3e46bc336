// An HTTP server on a loopback port that does to its clients what the test says: answers, stalls, breaks off.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dvla/core/error.hpp>

namespace dvla_test {

class test_server {
 public:
  struct request {
    std::string head, body;
    [[nodiscard]] nlohmann::json json() const { return nlohmann::json::parse(body); }
  };

  /// One client, for as long as the server lives.
  class connection {
   public:
    connection(test_server& server, int socket) : server_(server), socket_(socket) {}
    bool send(std::string_view bytes) {
      while (!bytes.empty()) {
        auto const sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent <= 0) return open_ = false;
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      }
      return true;
    }
    void close() { open_ = false; }
    /// Breaks the connection off with a reset instead of an end.
    void reset() {
      linger const at_once{1, 0};
      ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
      open_ = false;
    }
    /// Does nothing for 30 seconds, or until the server ends.
    void stall() { server_.wait(std::chrono::seconds(30)); }
    [[nodiscard]] bool open() const { return open_; }

   private:
    test_server& server_;
    int socket_;
    bool open_ = true;
  };

  using behaviour = std::function<void(connection&, request const&)>;

  /// The n-th request meets the n-th behaviour; the last one stays.
  explicit test_server(std::vector<behaviour> script)
      : script_(std::move(script)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const general = reinterpret_cast<sockaddr*>(&address);
    bool const up =
        ::bind(listener_, general, size) == 0 && ::listen(listener_, 64) == 0 && ::getsockname(listener_, general, &size) == 0;
    dvla::expect(up, "the test's server cannot listen on a loopback port");
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] { accept_all(); });
  }
  test_server(test_server&&) = delete;
  ~test_server() {
    {
      std::lock_guard const lock(mutex_);
      stopping_ = true;
      for (int const socket : sockets_) ::shutdown(socket, SHUT_RDWR);
    }
    changed_.notify_all();
    ::shutdown(listener_, SHUT_RDWR);
    accepting_.join();
    for (auto& thread : threads_) thread.join();
    ::close(listener_);
  }

  [[nodiscard]] std::string url() const { return dvla::concat("http://127.0.0.1:", port_, "/v1"); }
  [[nodiscard]] std::vector<request> requests() const {
    std::lock_guard const lock(mutex_);
    return requests_;
  }

 private:
  void wait(std::chrono::seconds how_long) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, how_long, [&] { return stopping_; });
  }

  void accept_all() {
    for (int socket; (socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      std::lock_guard const lock(mutex_);
      if (stopping_) {
        ::close(socket);
        return;
      }
      sockets_.push_back(socket);
      threads_.emplace_back([this, socket] { serve(socket); });
    }
  }

  void serve(int socket) {
    connection to(*this, socket);
    std::string buffer;
    for (request asked; to.open() && receive(socket, buffer, asked); asked = {}) {
      behaviour const* next = nullptr;
      {
        std::lock_guard const lock(mutex_);
        next = &script_[std::min(requests_.size(), script_.size() - 1)];
        requests_.push_back(asked);
      }
      (*next)(to, asked);
    }
    std::lock_guard const lock(mutex_);
    sockets_.erase(std::find(sockets_.begin(), sockets_.end(), socket));
    ::close(socket);
  }

  static bool more(int socket, std::string& buffer) {
    char bytes[65536];
    auto const count = ::recv(socket, bytes, sizeof bytes, 0);
    if (count > 0) buffer.append(bytes, static_cast<std::size_t>(count));
    return count > 0;
  }

  static bool receive(int socket, std::string& buffer, request& out) {
    std::size_t end;
    while ((end = buffer.find("\r\n\r\n")) == std::string::npos)
      if (!more(socket, buffer)) return false;
    out.head = buffer.substr(0, end);
    auto const length_at = out.head.find("Content-Length: ");
    std::size_t const length = length_at == std::string::npos ? 0 : std::stoul(out.head.substr(length_at + 16));
    while (buffer.size() < end + 4 + length)
      if (!more(socket, buffer)) return false;
    out.body = buffer.substr(end + 4, length);
    buffer.erase(0, end + 4 + length);
    return true;
  }

  std::vector<behaviour> script_;
  int listener_;
  unsigned port_ = 0;
  mutable std::mutex mutex_{};
  std::condition_variable changed_{};
  bool stopping_ = false;
  std::vector<int> sockets_{};
  std::vector<request> requests_{};
  std::vector<std::thread> threads_{};
  std::thread accepting_{};
};

/// An answer of this status; headers end with \r\n each.
inline test_server::behaviour answer(int status, std::string body, std::string headers = "Content-Type: application/json\r\n") {
  return [=](test_server::connection& to, test_server::request const&) {
    to.send(dvla::concat("HTTP/1.1 ", status, " Said\r\n", headers, "Content-Length: ", body.size(), "\r\n\r\n", body));
  };
}

/// The body of a completion with this text.
inline std::string completion_text(std::string const& text, std::string const& finish = "stop") {
  nlohmann::json body{
      {"object", "chat.completion"}, {"model", "served"}, {"usage", {{"prompt_tokens", 20}, {"completion_tokens", 5}}}};
  body["choices"] =
      nlohmann::json::array({{{"index", 0}, {"finish_reason", finish}, {"message", {{"role", "assistant"}, {"content", text}}}}});
  return body.dump();
}

inline test_server::behaviour completion(std::string const& text, std::string const& finish = "stop") {
  return answer(200, completion_text(text, finish));
}

}  // namespace dvla_test
