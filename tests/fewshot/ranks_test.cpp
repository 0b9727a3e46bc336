// Several processes that train one model, here as threads: the same training as by one with the whole batch.
#include <doctest/doctest.h>

#include <barrier>
#include <memory>
#include <thread>

#include <dvla/fewshot/pretrainer.hpp>

#include "fewshot/training_support.hpp"
#include "support/plain_classifier.hpp"

using namespace dvla;

namespace {

/// Threads as ranks: a communicator on the CPU.
class thread_rank {
 public:
  struct group {
    std::barrier<> meeting;
    std::vector<void*> data;
    explicit group(std::size_t size) : meeting(static_cast<std::ptrdiff_t>(size)), data(size) {}
  };

  thread_rank(std::shared_ptr<group> const& all, std::size_t rank) : all_(all), rank_(rank) {}
  [[nodiscard]] std::size_t rank() const { return rank_; }
  [[nodiscard]] std::size_t size() const { return all_->data.size(); }

  template <class T>
  void all_reduce_sum(cpu const&, std::size_t count, T* data) const {
    exchange(data, [&] {
      std::vector<T> sums(count, T(0));
      for (void* const other : all_->data)
        for (std::size_t i = 0; i < count; ++i) sums[i] += static_cast<T const*>(other)[i];
      return sums;
    });
  }
  template <class T>
  void all_reduce_mean(cpu const& device, std::size_t count, T* data) const {
    all_reduce_sum(device, count, data);
    for (std::size_t i = 0; i < count; ++i) data[i] /= static_cast<T>(size());
  }
  template <class T>
  void broadcast(cpu const&, std::size_t count, T* data) const {
    exchange(data, [&] { return std::vector<T>(static_cast<T const*>(all_->data[0]), static_cast<T const*>(all_->data[0]) + count); });
  }

 private:
  /// Replaces `data` by what is computed from everyone's.
  template <class T, class F>
  void exchange(T* data, F const& compute) const {
    all_->data[rank_] = data;
    all_->meeting.arrive_and_wait();
    auto const result = compute();
    all_->meeting.arrive_and_wait();
    std::copy(result.begin(), result.end(), data);
  }

  std::shared_ptr<group> all_;
  std::size_t rank_;
};
static_assert(communicator<thread_rank, cpu> && communicator<single_process, cpu> && communicator<single_process, cpu, double>);

pretrain_settings settings() {
  pretrain_settings s;
  s.epochs = 2;
  s.warmup_epochs = 0.5;
  s.lr = 5e-3;
  s.average = 0.9;
  s.clip = 0.5;
  s.seed = 5;
  return s;
}

template <class Model, class Ranks = single_process>
struct run {
  Model model;
  parameters<float> weights{model};
  plain::batches source;
  pretrainer<Model, plain::batches, cpu, Ranks> trainer;
  std::vector<double> losses{};

  explicit run(Ranks const& ranks = {}, pretrain_settings const& s = settings())
      : source(share_of(ranks)), trainer((initialise(model, 1 + ranks.rank()), model), weights, source, plain::classes, s, cpu{}, ranks) {}
  void steps(int count) {
    for (int i = 0; i < count; ++i) losses.push_back(trainer.step().loss);
  }
};

/// f(rank's communicator) in a thread a rank.
template <class F>
void in_threads(std::size_t size, F const& f) {
  auto const all = std::make_shared<thread_rank::group>(size);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < size; ++r) threads.emplace_back([&f, all, r] { f(thread_rank(all, r)); });
  for (auto& t : threads) t.join();
}

template <class Model>
using rank_runs = std::vector<std::unique_ptr<run<Model, thread_rank>>>;

template <class Model>
rank_runs<Model> trained(std::size_t size, int steps) {
  rank_runs<Model> runs(size);
  in_threads(size, [&](thread_rank const& rank) {
    auto& mine = runs[rank.rank()] = std::make_unique<run<Model, thread_rank>>(rank);
    mine->steps(steps);
  });
  return runs;
}

}  // namespace

TEST_CASE("two and four ranks train as one does with the whole batch, and keep the same weights to the bit") {
  run<plain::with_layer_norm> alone;
  alone.steps(20);
  CHECK(alone.losses.back() < 0.8 * alone.losses.front());
  for (std::size_t const size : {2u, 4u}) {
    auto const runs = trained<plain::with_layer_norm>(size, 20);
    for (auto const& one : runs) {
      REQUIRE(one->losses.size() == 20);
      for (std::size_t i = 0; i < 20; ++i) CHECK(one->losses[i] == doctest::Approx(alone.losses[i]).epsilon(1e-3));
      CHECK(one->losses == runs[0]->losses);
      CHECK(same_bits(one->weights.weights(), runs[0]->weights.weights()));
      CHECK(same_bits(*one->trainer.average(), *runs[0]->trainer.average()));
    }
  }
}

TEST_CASE("running statistics are each rank's own until they are averaged") {
  auto const runs = trained<plain::with_batch_norm>(2, 6);
  auto const& first = runs[0]->weights.statistics();
  auto const& second = runs[1]->weights.statistics();
  CHECK(same_bits(runs[0]->weights.weights(), runs[1]->weights.weights()));
  CHECK_FALSE(same_bits(first, second));
  std::vector<float> mean;
  for (std::size_t i = 0; i < first.size(); ++i) mean.push_back((first.data()[i] + second.data()[i]) / 2);
  std::thread other([&] { runs[1]->trainer.average_statistics(); });
  runs[0]->trainer.average_statistics();
  other.join();
  CHECK(std::equal(mean.begin(), mean.end(), first.data()));
  CHECK(same_bits(first, second));
}

TEST_CASE("what one rank asks for, and the time, all get to know") {
  std::vector<pretrain_report> reports(6);
  in_threads(2, [&](thread_rank const& rank) {
    auto limited = settings();
    limited.max_seconds = 1000;
    run<plain::with_layer_norm, thread_rank> mine(rank, limited);
    reports[rank.rank()] = mine.trainer.step({rank.rank() == 0, false});
    reports[2 + rank.rank()] = mine.trainer.step({false, rank.rank() == 1});
    reports[4 + rank.rank()] = mine.trainer.step();
  });
  for (std::size_t r = 0; r < 2; ++r) {
    CHECK(reports[r].wishes.save);
    CHECK_FALSE(reports[r].wishes.stop);
    CHECK(reports[2 + r].wishes.stop);
    CHECK_FALSE(reports[2 + r].wishes.save);
    CHECK_FALSE(reports[4 + r].wishes.stop);
  }
  CHECK(reports[4].seconds > 0);
  CHECK(reports[4].seconds == reports[5].seconds);
  CHECK(reports[4].rate == reports[5].rate);
}

TEST_CASE("a rank at another step than rank 0 says so") {
  std::string complaint;
  in_threads(2, [&](thread_rank const& rank) {
    run<plain::with_layer_norm, thread_rank> mine(rank);
    if (rank.rank() == 1) mine.trainer.state().step = 3;
    if (rank.rank() == 0) {  // what the rank of a run that goes on would do first
      double step = 0;
      rank.broadcast(cpu{}, 1, &step);
      return;
    }
    try {
      (void)mine.trainer.step();
    } catch (error const& problem) {
      complaint = problem.what();
    }
  });
  CHECK(complaint.find("rank 1 is at step 3 but rank 0 at 0") != std::string::npos);
}

TEST_CASE("a batch that cannot be shared is refused") {
  CHECK_THROWS_WITH_AS(epoch_order({80, 18, 1, true, 3, {0, 2}}),
                       doctest::Contains("a batch of 18 for 2 processes; it must be a multiple of 4"), error);
  CHECK_THROWS_WITH_AS(epoch_order({80, 16, 1, false, 3, {0, 2}}), doctest::Contains("incomplete batches must be left out"), error);
}

TEST_CASE("the ranks' images are the single process's, at the same steps") {
  epoch_order whole({50, 12, 2, true, 9});
  for (std::uint64_t step = 0; step < 2 * whole.steps_per_epoch(); ++step) {
    auto const expected = whole.batch(step);
    std::vector<std::uint32_t> all(12);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      epoch_order order({50, 12, 2, true, 9, {rank, 3}});
      CHECK(order.steps_per_epoch() == whole.steps_per_epoch());
      auto const mine = order.batch(step);
      REQUIRE(mine.size() == 4);
      for (std::size_t i = 0; i < 4; ++i) all[order.share().place(i, 4)] = mine[i];
    }
    CHECK(all == expected);
  }
}
