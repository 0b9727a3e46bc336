// Who a process is, from its environment.
#include <doctest/doctest.h>

#include <map>

#include <dvla/distributed/launch.hpp>

#include "support/tensors.hpp"

namespace {

using environment = std::map<std::string, std::string>;

dvla::launch read(environment const& variables) {
  return dvla::read_launch([&](char const* name) -> char const* {
    auto const found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

std::string complaint(environment const& variables) {
  return message_of([&] { (void)read(variables); });
}

}  // namespace

TEST_CASE("a process without variables, or with empty ones, is alone") {
  for (auto const& variables : {environment{}, environment{{"RANK", ""}, {"WORLD_SIZE", ""}}, environment{{"RANK", "0"}, {"WORLD_SIZE", "1"}}}) {
    auto const who = read(variables);
    CHECK(who.alone());
    CHECK(who.rank == 0);
    CHECK(who.local_rank == 0);
  }
}

TEST_CASE("the usual variables place a process") {
  auto const who = read({{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "head"}, {"MASTER_PORT", "4000"}});
  CHECK(who.rank == 5);
  CHECK(who.size == 8);
  CHECK(who.local_rank == 1);
  CHECK(who.address == "head");
  CHECK(who.port == 4000);
}

TEST_CASE("on a single machine rank and size are enough") {
  auto const who = read({{"RANK", "1"}, {"WORLD_SIZE", "2"}});
  CHECK(who.local_rank == 1);
  CHECK(who.address == "127.0.0.1");
  CHECK(who.port == 29500);
}

TEST_CASE("Open MPI's variables count where the usual ones are not set") {
  environment mpi{{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}};
  auto who = read(mpi);
  CHECK(who.rank == 3);
  CHECK(who.size == 4);
  CHECK(who.local_rank == 1);
  mpi.insert({{"RANK", "2"}, {"WORLD_SIZE", "6"}, {"LOCAL_RANK", "0"}});
  who = read(mpi);
  CHECK(who.rank == 2);
  CHECK(who.size == 6);
  CHECK(who.local_rank == 0);
}

TEST_CASE("variables that do not fit together are answered with a sentence") {
  CHECK(contains(complaint({{"RANK", "1"}}), "RANK is set but WORLD_SIZE is not"));
  CHECK(contains(complaint({{"WORLD_SIZE", "2"}}), "WORLD_SIZE is set but RANK is not"));
  CHECK(contains(complaint({{"OMPI_COMM_WORLD_RANK", "1"}}), "OMPI_COMM_WORLD_RANK is set but OMPI_COMM_WORLD_SIZE is not"));
  CHECK(contains(complaint({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), "RANK is 2 and WORLD_SIZE 2; ranks count from 0"));
  CHECK(contains(complaint({{"RANK", "0"}, {"WORLD_SIZE", "0"}}), "WORLD_SIZE 0"));
  CHECK(contains(complaint({{"RANK", "one"}, {"WORLD_SIZE", "2"}}), "RANK is \"one\"; expected a whole number"));
  CHECK(contains(complaint({{"RANK", "1 "}, {"WORLD_SIZE", "2"}}), "RANK is \"1 \""));
  CHECK(contains(complaint({{"RANK", "-1"}, {"WORLD_SIZE", "2"}}), "RANK is \"-1\""));
  CHECK(contains(complaint({{"RANK", "0"}, {"WORLD_SIZE", "99999999999999999999"}}), "WORLD_SIZE is \"9999"));
  CHECK(contains(complaint({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "x"}}), "LOCAL_RANK is \"x\""));
  CHECK(contains(complaint({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "0"}}), "MASTER_PORT is 0"));
  CHECK(contains(complaint({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "70000"}}), "MASTER_PORT is \"70000\""));
}
