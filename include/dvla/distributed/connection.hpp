// A TCP connection whose every operation ends at a deadline.
#pragma once

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

using network_clock = std::chrono::steady_clock;

[[nodiscard]] inline std::string system_reason(int code) { return std::generic_category().message(code); }

/// A socket that does not block. Functions return false, or an empty connection, where the peer is gone or the deadline past.
class connection {
 public:
  connection() = default;
  /// Takes over an open socket.
  explicit connection(int descriptor) : descriptor_(descriptor) {
    if (descriptor_ >= 0) (void)::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL) | O_NONBLOCK);
    if (descriptor_ >= 0) (void)::fcntl(descriptor_, F_SETFD, FD_CLOEXEC);
  }
  connection(connection&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  connection& operator=(connection&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~connection() {
    if (descriptor_ >= 0) (void)::close(descriptor_);
  }

  [[nodiscard]] explicit operator bool() const { return descriptor_ >= 0; }
  [[nodiscard]] int descriptor() const { return descriptor_; }

  /// Waits until the socket can be read (POLLIN) or written (POLLOUT).
  [[nodiscard]] bool wait(short events, network_clock::time_point deadline) const {
    for (;;) {
      auto const left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - network_clock::now()).count() + 1;
      if (left <= 0) return false;
      pollfd entry{descriptor_, events, 0};
      int const ready = ::poll(&entry, 1, static_cast<int>(std::min<long long>(left, 1000)));
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) return false;
    }
  }

  [[nodiscard]] bool send(void const* data, std::size_t bytes, network_clock::time_point deadline) const {
    auto const* at = static_cast<char const*>(data);
    while (bytes > 0) {
      if (!wait(POLLOUT, deadline)) return false;
      auto const sent = ::send(descriptor_, at, bytes, MSG_NOSIGNAL);
      if (sent < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (sent <= 0) return false;
      at += sent;
      bytes -= static_cast<std::size_t>(sent);
    }
    return true;
  }

  [[nodiscard]] bool receive(void* data, std::size_t bytes, network_clock::time_point deadline) const {
    auto* at = static_cast<char*>(data);
    while (bytes > 0) {
      if (!wait(POLLIN, deadline)) return false;
      auto const got = ::recv(descriptor_, at, bytes, 0);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (got <= 0) return false;
      at += got;
      bytes -= static_cast<std::size_t>(got);
    }
    return true;
  }

 private:
  int descriptor_ = -1;
};

struct free_addresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

/// What a host's name stands for; null with `reason` filled in if it cannot be found.
[[nodiscard]] inline std::unique_ptr<addrinfo, free_addresses> addresses_of(std::string const& host, std::uint16_t port,
                                                                            std::string& reason) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  int const status = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &wanted, &found);
  if (status != 0) reason = ::gai_strerror(status);
  return std::unique_ptr<addrinfo, free_addresses>(status == 0 ? found : nullptr);
}

/// A socket that listens at the first of the host's addresses that allows it.
[[nodiscard]] inline connection listen_at(std::string const& host, std::uint16_t port, std::string& reason) {
  auto const list = addresses_of(host, port, reason);
  for (addrinfo const* a = list.get(); a != nullptr; a = a->ai_next) {
    connection out(::socket(a->ai_family, a->ai_socktype, a->ai_protocol));
    int const yes = 1;
    if (out) (void)::setsockopt(out.descriptor(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (out && ::bind(out.descriptor(), a->ai_addr, a->ai_addrlen) == 0 && ::listen(out.descriptor(), 128) == 0) return out;
    reason = system_reason(errno);
  }
  return {};
}

/// A connection to the host, tried once.
[[nodiscard]] inline connection connect_to(std::string const& host, std::uint16_t port, network_clock::time_point deadline,
                                           std::string& reason) {
  auto const list = addresses_of(host, port, reason);
  for (addrinfo const* a = list.get(); a != nullptr; a = a->ai_next) {
    connection out(::socket(a->ai_family, a->ai_socktype, a->ai_protocol));
    int status = !out || ::connect(out.descriptor(), a->ai_addr, a->ai_addrlen) != 0 ? errno : 0;
    if (status == EINPROGRESS) {
      socklen_t size = sizeof status;
      if (!out.wait(POLLOUT, deadline)) status = ETIMEDOUT;
      else if (::getsockopt(out.descriptor(), SOL_SOCKET, SO_ERROR, &status, &size) != 0) status = errno;
    }
    if (status == 0) return out;
    reason = system_reason(status);
  }
  return {};
}

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
