// Shares of a batch: together the whole, and mirror images stay together.
#include <doctest/doctest.h>

#include <vector>

#include <dvla/core/batch_share.hpp>

using dvla::batch_share;

TEST_CASE("a single process has the whole batch as it is") {
  for (std::size_t const batch : {1u, 2u, 7u, 8u})
    for (std::size_t i = 0; i < batch; ++i) CHECK(batch_share{}.place(i, batch) == i);
}

TEST_CASE("shares make up the batch, and mirror images mirror each other in a share too") {
  for (std::size_t const size : {2u, 3u, 4u})
    for (std::size_t const count : {2u, 4u, 10u}) {
      std::size_t const batch = size * count;
      std::vector<int> seen(batch, 0);
      for (std::size_t rank = 0; rank < size; ++rank) {
        batch_share const share{rank, size};
        for (std::size_t i = 0; i < count; ++i) {
          REQUIRE(share.place(i, count) < batch);
          ++seen[share.place(i, count)];
          CHECK(share.place(count - 1 - i, count) == batch - 1 - share.place(i, count));
          if (i + 1 < count) CHECK(share.place(i, count) < share.place(i + 1, count));
        }
        CHECK(share.place(0, count) == rank);
      }
      CHECK(seen == std::vector<int>(batch, 1));
    }
}
