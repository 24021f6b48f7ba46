// The JSON that others read, and the table.
#include "perf/report.h"

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

namespace hora::perf {
namespace {

using Json = nlohmann::json;

SizeResult result_of_one_mebibyte() {
  SizeResult result;
  result.bytes = 1 << 20;
  result.count = 1 << 18;
  result.out_of_place = Measurement{{10, 20, 30, 40, 50}, 15, 0};
  result.in_place = Measurement{{11, 21, 31, 41, 51}, 16, 3};
  result.memcpy_p50_us = 12.5;
  return result;
}

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

TEST_CASE("json_has_exactly_the_agreed_keys") {
  Report report({RunOptions(), 2, "machine", "in shared memory"}, nullptr);
  report.add(result_of_one_mebibyte());
  const Json json = Json::parse(report.json());
  CHECK(keys_of(json) == std::vector<std::string>{"host", "memcpy", "np", "op", "rows", "version"});
  CHECK(json["op"] == "allreduce");
  CHECK(json["np"] == 2);
  CHECK(json["host"] == "machine");
  REQUIRE(json["rows"].size() == 2);
  const Json& row = json["rows"][1];
  CHECK(keys_of(row) == std::vector<std::string>{"algbw_GBps", "busbw_GBps", "bytes", "count", "dtype", "path",
                                                 "placement", "redop", "time_us", "wrong"});
  CHECK(row["bytes"] == 1 << 20);
  CHECK(row["count"] == 1 << 18);
  CHECK(row["dtype"] == "float32");
  CHECK(row["redop"] == "sum");
  CHECK(row["path"] == "ordered");
  CHECK(row["placement"] == "in-place");
  CHECK(json["rows"][0]["placement"] == "out-of-place");
  CHECK(row["time_us"] == Json{{"min", 11}, {"p50", 21}, {"p95", 31}, {"p99", 41}, {"max", 51}});
  CHECK(row["algbw_GBps"].get<double>() == Approx(49.93).margin(0.01));
  CHECK(row["wrong"] == 3);
  CHECK(json["memcpy"] == Json::parse(R"([{"bytes": 1048576, "p50_us": 12.5}])"));
}

TEST_CASE("wrong_elements_of_all_sizes_add_up") {
  Report report({RunOptions(), 2, "machine", "in shared memory"}, nullptr);
  CHECK(report.wrong() == 0);
  report.add(result_of_one_mebibyte());
  report.add(result_of_one_mebibyte());
  CHECK(report.wrong() == 6);
}

TEST_CASE("the_table_has_as_many_columns_in_every_row") {
  char* text = nullptr;
  std::size_t length = 0;
  std::FILE* table = ::open_memstream(&text, &length);
  REQUIRE(table != nullptr);
  Report report({RunOptions(), 2, "machine", "in shared memory"}, table);
  report.print_header();
  report.add(result_of_one_mebibyte());
  SizeResult half = result_of_one_mebibyte();
  half.in_place.reset();
  report.add(half);
  std::fclose(table);
  const std::string printed(text, length);
  ::free(text);
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(printed);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    if (line[0] != '#')
      rows.emplace_back(std::istream_iterator<std::string>(words), std::istream_iterator<std::string>());
  }
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].size() == 15);
  CHECK(rows[1].size() == 15);
  CHECK(rows[0][0] == "1048576");
  CHECK(rows[0][4] == "20.00");
  CHECK(rows[1][9] == "-");
}

TEST_CASE("a_file_that_cannot_be_written_is_an_error_that_names_it") {
  const Report report({RunOptions(), 2, "machine", "in shared memory"}, nullptr);
  const Status status = report.write_json("/nonexistent/folder/x.json");
  CHECK(status.code() == StatusCode::resource);
  CHECK_THAT(std::string(status.message()), Catch::Contains("/nonexistent/folder/x.json"));
}

}  // namespace
}  // namespace hora::perf
