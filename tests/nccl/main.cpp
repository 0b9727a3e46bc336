// The tests of several cards. Started without RANK it starts itself as two processes, a card each, and waits for both; with fewer
// cards it is skipped: exit status 77. Started by mpirun or with RANK and WORLD_SIZE it is one of the processes.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cuda_runtime_api.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <dvla/distributed/launch.hpp>

namespace {

/// A port that nobody listens at now; 0 if there is none.
int free_port() {
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof where;
  int const probe = ::socket(AF_INET, SOCK_STREAM, 0);
  bool const found = ::bind(probe, reinterpret_cast<sockaddr*>(&where), size) == 0 &&
                     ::getsockname(probe, reinterpret_cast<sockaddr*>(&where), &size) == 0;
  (void)::close(probe);
  return found ? ntohs(where.sin_port) : 0;
}

pid_t start(int rank, int port, char** words) {
  pid_t const child = ::fork();
  if (child != 0) return child;
  auto const set = [](char const* name, int value) { (void)::setenv(name, std::to_string(value).c_str(), 1); };
  set("RANK", rank);
  set("LOCAL_RANK", rank);
  set("WORLD_SIZE", 2);
  set("MASTER_PORT", port);
  (void)::setenv("MASTER_ADDR", "127.0.0.1", 1);
  (void)::execv("/proc/self/exe", words);
  ::_exit(127);
}

/// Runs both ranks. Once one has failed the other, which may wait for it, is ended.
int run_both(char** words) {
  int const port = free_port();
  pid_t const ranks[2] = {start(0, port, words), start(1, port, words)};
  int result = 0;
  for (int ended = 0; ended < 2; ++ended) {
    int status = 0;
    pid_t const one = ::wait(&status);
    if (one < 0) return 1;
    int const code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    if (code == 0) continue;
    std::fprintf(stderr, "rank %d ended with %d\n", one == ranks[0] ? 0 : 1, code);
    if (result == 0 && ended == 0) (void)::kill(one == ranks[0] ? ranks[1] : ranks[0], SIGKILL);
    if (result == 0) result = code;
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices < 2) {
    std::puts("fewer than two CUDA devices: nothing was exchanged between cards");
    return 77;
  }
  auto const who = dvla::launch_from_environment();
  if (who.alone()) return run_both(argv);
  if (cudaSetDevice(static_cast<int>(who.local_rank)) != cudaSuccess) return 1;  // test buffers lie on the card of the rank
  return doctest::Context(argc, argv).run();
}
