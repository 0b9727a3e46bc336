// Parallel work: the same chunks on any number of threads, every index once, the first failure reported.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include <dvla/core/thread_pool.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::parallel_for;
using dvla::thread_pool;
using chunk_list = std::vector<std::pair<std::size_t, std::size_t>>;

chunk_list chunks_of(dvla::executor* pool, std::size_t count, std::size_t grain) {
  chunk_list chunks;
  std::mutex lock;
  parallel_for(pool, count, grain, [&](std::size_t begin, std::size_t end) {
    std::lock_guard const guard(lock);
    chunks.emplace_back(begin, end);
  });
  std::sort(chunks.begin(), chunks.end());
  return chunks;
}

}  // namespace

TEST_CASE("The chunks are a function of the work alone and cover it once") {
  thread_pool one(1), two(2), many(13);
  for (std::size_t count : {0u, 1u, 7u, 64u, 1000u})
    for (std::size_t grain : {0u, 1u, 3u, 64u, 5000u}) {
      auto const expected = chunks_of(nullptr, count, grain);
      std::size_t at = 0;
      for (auto const& [begin, end] : expected) {
        CHECK(begin == at);
        CHECK(end > begin);
        at = end;
      }
      CHECK(at == count);
      CHECK(chunks_of(&one, count, grain) == expected);
      CHECK(chunks_of(&two, count, grain) == expected);
      CHECK(chunks_of(&many, count, grain) == expected);
    }
}

TEST_CASE("A pool counts its caller; zero asks for the machine's own number") {
  CHECK(thread_pool(1).threads() == 1);
  CHECK(thread_pool(3).threads() == 3);
  CHECK(thread_pool(0).threads() >= 1);
  CHECK(contains(message_of([] { thread_pool const pool(5000); }), "5000 threads"));
}

TEST_CASE("Each task runs exactly once over thousands of jobs in a row") {
  thread_pool pool(4);
  std::vector<std::atomic<int>> runs(37);
  for (int job = 0; job < 3000; ++job) pool.run(37, dvla::task_ref([&](std::size_t i) { ++runs[i]; }));
  for (auto const& n : runs) CHECK(n == 3000);
  pool.run(0, dvla::task_ref([](std::size_t) { throw 1; }));
}

TEST_CASE("A run inside a task works, to any depth") {
  thread_pool pool(3);
  std::atomic<int> leaves = 0;
  parallel_for(&pool, 8, 1, [&](std::size_t, std::size_t) {
    parallel_for(&pool, 5, 1, [&](std::size_t, std::size_t) { parallel_for(&pool, 3, 1, [&](std::size_t, std::size_t) { ++leaves; }); });
  });
  CHECK(leaves == 8 * 5 * 3);
}

TEST_CASE("The failure of the lowest index is thrown after all tasks have ended, and the pool works on") {
  thread_pool pool(4);
  for (int repeat = 0; repeat < 50; ++repeat) {
    std::atomic<int> ended = 0;
    std::string message;
    try {
      pool.run(100, dvla::task_ref([&](std::size_t i) {
        ++ended;
        if (i % 10 == 7) throw std::runtime_error(std::to_string(i));
      }));
    } catch (std::runtime_error const& e) {
      message = e.what();
    }
    CHECK(message == "7");
    CHECK(ended == 100);
  }
  CHECK(chunks_of(&pool, 10, 3).size() == 4);
}

TEST_CASE("A failure inside a nested run reaches the outer caller") {
  thread_pool pool(3);
  CHECK_THROWS_AS(parallel_for(&pool, 4, 1, [&](std::size_t i, std::size_t) {
                    parallel_for(&pool, 4, 1, [&](std::size_t j, std::size_t) {
                      if (i == 2 && j == 3) throw std::out_of_range("x");
                    });
                  }), std::out_of_range);
}

TEST_CASE("Threads that share a pool all get their work done") {
  thread_pool pool(3);
  std::vector<std::thread> callers;
  std::vector<std::size_t> sums(6, 0);
  for (std::size_t c = 0; c < sums.size(); ++c)
    callers.emplace_back([&, c] {
      for (int repeat = 0; repeat < 200; ++repeat) {
        std::atomic<std::size_t> sum = 0;
        parallel_for(&pool, 50, 3, [&](std::size_t begin, std::size_t end) {
          for (std::size_t i = begin; i < end; ++i) sum += i;
        });
        sums[c] += sum;
      }
    });
  for (auto& caller : callers) caller.join();
  for (std::size_t sum : sums) CHECK(sum == 200u * 1225);
}

TEST_CASE("What tasks write is visible to the caller afterwards") {
  thread_pool pool(4);
  std::vector<int> values(100000, 0);
  for (int round = 1; round <= 20; ++round) {
    parallel_for(&pool, values.size(), 997, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) values[i] += round;
    });
    CHECK(std::accumulate(values.begin(), values.end(), 0LL) == 100000LL * round * (round + 1) / 2);
  }
}
