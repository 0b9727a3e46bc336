// Processes that meet, here as threads and as a forked process, over the loopback.
#include <doctest/doctest.h>

#include <netinet/in.h>
#include <sys/wait.h>

#include <future>

#include <dvla/distributed/rendezvous.hpp>

#include "support/tensors.hpp"

namespace {

using namespace std::chrono_literals;
using dvla::detail::connection;
using dvla::detail::network_clock;

/// A port that nobody listens at now.
std::uint16_t free_port() {
  connection const probe(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof where;
  REQUIRE(::bind(probe.descriptor(), reinterpret_cast<sockaddr*>(&where), size) == 0);
  REQUIRE(::getsockname(probe.descriptor(), reinterpret_cast<sockaddr*>(&where), &size) == 0);
  return ntohs(where.sin_port);
}

dvla::launch process(std::size_t rank, std::size_t size, std::uint16_t port) { return {rank, size, rank, "127.0.0.1", port}; }

/// What a rank gets, or what it complains of.
std::future<std::string> arrival(dvla::launch const& who, std::string const& message, std::chrono::milliseconds patience) {
  return std::async(std::launch::async, [=] {
    std::string got;
    auto const complaint = message_of([&] { got = dvla::meet(who, message, patience); });
    return complaint.empty() ? got : "error: " + complaint;
  });
}

}  // namespace

TEST_CASE("all ranks get rank 0's message, whoever comes first") {
  auto const port = free_port();
  std::string const message("a message\0of bytes", 18);
  std::vector<std::future<std::string>> ranks;
  for (std::size_t r = 4; r-- > 0;) {
    ranks.push_back(arrival(process(r, 4, port), r == 0 ? message : "not this", 20s));
    std::this_thread::sleep_for(20ms);
  }
  for (auto& rank : ranks) CHECK(rank.get() == message);
  CHECK(dvla::meet({}, message) == message);
}

TEST_CASE("another process is met") {
  auto const port = free_port();
  pid_t const child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    bool good = false;
    try {
      good = dvla::meet(process(1, 2, port), "", 20s) == "token";
    } catch (...) {
    }
    ::_exit(good ? 0 : 1);
  }
  CHECK(dvla::meet(process(0, 2, port), "token", 20s) == "token");
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE("a rank that does not come is named to those that have come") {
  auto const port = free_port();
  auto host = arrival(process(0, 4, port), "token", 700ms), guest = arrival(process(2, 4, port), "", 5s);
  auto const of_host = host.get(), of_guest = guest.get();
  CHECK(contains(of_host, "error: rank 0 waited 0.7 s at 127.0.0.1:"));
  CHECK(contains(of_host, "for ranks 1, 3 of 4 processes"));
  CHECK(of_guest == of_host);
}

TEST_CASE("a rank 0 that does not come ends the others' waiting") {
  CHECK(contains(arrival(process(1, 2, free_port()), "", 300ms).get(), "error: rank 1 of 2 tried for 0.3 s to reach rank 0 at 127.0.0.1:"));
}

TEST_CASE("who is no process of the run is turned away, and the others meet all the same") {
  auto const port = free_port();
  auto host = arrival(process(0, 3, port), "token", 20s), first = arrival(process(1, 3, port), "", 20s);
  std::string reason;
  connection stranger;
  while (!stranger) stranger = dvla::detail::connect_to("127.0.0.1", port, network_clock::now() + 5s, reason);
  std::string const words(64, 'x');
  CHECK(stranger.send(words.data(), words.size(), network_clock::now() + 5s));
  CHECK(contains(arrival(process(2, 5, port), "", 20s).get(), "rank 0 counts 3 processes, rank 2 5"));
  auto second = arrival(process(2, 3, port), "", 20s);
  CHECK(host.get() == "token");
  CHECK(first.get() == "token");
  CHECK(second.get() == "token");
}

TEST_CASE("a rank that is there already is told so") {
  auto const port = free_port();
  auto host = arrival(process(0, 3, port), "token", 20s);
  auto one = arrival(process(1, 3, port), "", 20s), same = arrival(process(1, 3, port), "", 20s);
  // One of the two is turned away at once, while the other waits for rank 2.
  while (one.wait_for(5ms) != std::future_status::ready && same.wait_for(5ms) != std::future_status::ready) continue;
  bool const first_left = one.wait_for(0ms) == std::future_status::ready;
  CHECK(contains((first_left ? one : same).get(), "there is a rank 1 already"));
  CHECK(arrival(process(2, 3, port), "", 20s).get() == "token");
  CHECK((first_left ? same : one).get() == "token");
  CHECK(host.get() == "token");
}

TEST_CASE("a port that is taken is named") {
  auto const port = free_port();
  std::string reason;
  auto const other = dvla::detail::listen_at("127.0.0.1", port, reason);
  REQUIRE(static_cast<bool>(other));
  auto const said = message_of([&] { (void)dvla::meet(process(0, 2, port), "token", 200ms); });
  CHECK(contains(said, dvla::concat("rank 0 cannot listen at 127.0.0.1:", port)));
  CHECK(contains(said, "MASTER_PORT"));
}
