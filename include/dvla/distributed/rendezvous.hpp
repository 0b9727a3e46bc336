// How the processes of a run find each other: all come to rank 0 by TCP and get its message once the last one is there.
#pragma once

#include <array>
#include <chrono>
#include <cstring>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <dvla/distributed/connection.hpp>
#include <dvla/distributed/launch.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

inline constexpr std::uint64_t rendezvous_hello = 0x64766C612D313E30;   // "dvla-1>0"
inline constexpr std::uint64_t rendezvous_answer = 0x64766C612D303E31;  // "dvla-0>1"
inline constexpr std::size_t rendezvous_most = std::size_t{1} << 16;    // bytes of a message or a refusal
inline constexpr std::chrono::seconds rendezvous_short{5};  // for what a peer that has connected should do at once

/// What a process says of itself.
struct rendezvous_greeting {
  std::uint64_t magic = rendezvous_hello, rank = 0, size = 0;
};
/// What rank 0 says to it: whether it may go on, and how long the text is that follows.
struct rendezvous_reply {
  std::uint64_t magic = rendezvous_answer, accepted = 0, bytes = 0;
};

[[nodiscard]] inline bool answer(connection const& to, bool accepted, std::string const& text) {
  rendezvous_reply const reply{rendezvous_answer, accepted ? 1u : 0u, text.size()};
  auto const deadline = network_clock::now() + rendezvous_short;
  return to.send(&reply, sizeof reply, deadline) && to.send(text.data(), text.size(), deadline);
}

[[nodiscard]] inline std::string place_of(launch const& who) { return concat(who.address, ":", who.port); }

[[nodiscard]] inline double seconds_of(std::chrono::milliseconds time) { return static_cast<double>(time.count()) / 1000; }

/// Rank 0's side of a rendezvous.
class rendezvous_host {
 public:
  rendezvous_host(launch const& who, std::string const& message, std::chrono::milliseconds patience)
      : who_(who), message_(message), patience_(patience), deadline_(network_clock::now() + patience), guests_(who.size) {
    std::string reason;
    listener_ = listen_at(who.address, who.port, reason);
    expect(static_cast<bool>(listener_), "rank 0 cannot listen at ", place_of(who), ": ", reason,
           "; MASTER_ADDR must be an address of rank 0's machine and MASTER_PORT a free port, the same for all processes");
  }

  void gather() {
    std::size_t missing = who_.size - 1;
    while (missing > 0 && listener_.wait(POLLIN, deadline_)) {
      connection guest(::accept(listener_.descriptor(), nullptr, nullptr));
      if (guest && admit(guest)) --missing;
    }
    std::string const complaint = missing > 0 ? absent() : std::string();
    for (std::size_t r = 1; r < who_.size; ++r)
      if (guests_[r] && !answer(guests_[r], missing == 0, missing == 0 ? message_ : complaint) && missing == 0)
        fail("rank ", r, " left the meeting at ", place_of(who_), " before it got the message; start all processes again");
    expect(missing == 0, complaint);
  }

 private:
  /// Whether a new rank has come. What is no process of this run is turned away; a stranger gets no answer.
  bool admit(connection& guest) {
    rendezvous_greeting hello;
    if (!guest.receive(&hello, sizeof hello, std::min(deadline_, network_clock::now() + rendezvous_short))) return false;
    if (hello.magic != rendezvous_hello) return false;
    std::string refusal;
    if (hello.size != who_.size) refusal = concat("rank 0 counts ", who_.size, " processes, rank ", hello.rank, " ", hello.size);
    else if (hello.rank >= who_.size) refusal = concat("there is no rank ", hello.rank, " of ", who_.size);
    else if (hello.rank == 0 || guests_[hello.rank]) refusal = concat("there is a rank ", hello.rank, " already");
    if (!refusal.empty()) {
      refusal += "; every process needs a rank of its own and the same WORLD_SIZE, and every run a MASTER_PORT of its own";
      (void)answer(guest, false, refusal);
      return false;
    }
    guests_[hello.rank] = std::move(guest);
    return true;
  }

  [[nodiscard]] std::string absent() const {
    std::string ranks;
    std::size_t named = 0, count = 0;
    for (std::size_t r = 1; r < who_.size; ++r) {
      if (guests_[r]) continue;
      ++count;
      if (++named <= 8) ranks += concat(ranks.empty() ? "" : ", ", r);
    }
    if (count > 8) ranks += concat(" and ", count - 8, " more");
    return concat("rank 0 waited ", seconds_of(patience_), " s at ", place_of(who_), " for ", count == 1 ? "rank " : "ranks ", ranks,
                  " of ", who_.size, " processes; start all of them, with the same MASTER_ADDR and MASTER_PORT");
  }

  launch const& who_;
  std::string const& message_;
  std::chrono::milliseconds patience_;
  network_clock::time_point deadline_;
  connection listener_;
  std::vector<connection> guests_;  // by rank; empty until it has come
};

/// Another rank's side; rank 0 may come later.
[[nodiscard]] inline std::string visit(launch const& who, std::chrono::milliseconds patience) {
  auto const deadline = network_clock::now() + patience;
  std::string reason = "no answer";
  do {
    auto const host = connect_to(who.address, who.port, deadline, reason);
    rendezvous_greeting const hello{rendezvous_hello, who.rank, who.size};
    rendezvous_reply reply;
    // Rank 0 has its own patience and may have begun to wait only now.
    auto const end = network_clock::now() + patience + 2 * rendezvous_short;
    if (host && host.send(&hello, sizeof hello, end) && host.receive(&reply, sizeof reply, end) && reply.magic == rendezvous_answer &&
        reply.bytes <= rendezvous_most) {
      std::string text(reply.bytes, '\0');
      if (host.receive(text.data(), text.size(), end)) {
        expect(reply.accepted == 1, text);
        return text;
      }
    }
    if (host) reason = "what listens there did not answer as rank 0 does, or ended";
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  } while (network_clock::now() < deadline);
  fail("rank ", who.rank, " of ", who.size, " tried for ", seconds_of(patience), " s to reach rank 0 at ", place_of(who), ": ", reason,
       "; start rank 0 too, and give all processes the MASTER_ADDR and MASTER_PORT of rank 0");
}

}  // namespace detail

/// Brings the processes of a launch together: returns rank 0's message, at most 64 KiB, on every rank, once all have come. Throws
/// where they have not within `patience`, naming those that are missing, and where two have the same rank or another size. A
/// process alone gets its own message.
[[nodiscard]] inline std::string meet(launch const& who, std::string const& message,
                                      std::chrono::milliseconds patience = std::chrono::minutes(2)) {
  expect(message.size() <= detail::rendezvous_most, "meet: a message of ", message.size(), " bytes; at most ", detail::rendezvous_most);
  if (who.alone()) return message;
  if (who.rank > 0) return detail::visit(who, patience);
  detail::rendezvous_host(who, message, patience).gather();
  return message;
}

}  // namespace dvla::inline DVLA_ABI
