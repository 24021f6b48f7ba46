// Replays the corpus without a fuzzer. Files named valid_* are golden: their bytes must stay acceptable.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "base/random.h"
#include "decoders.h"

namespace hora::fuzz {
namespace {

std::map<std::string, std::string> corpus() {
  std::map<std::string, std::string> files;  // in order of their names
  for (const auto& entry : std::filesystem::directory_iterator(HORA_CORPUS)) {
    std::ifstream file(entry.path(), std::ios::binary);
    files[entry.path().filename()] = {std::istreambuf_iterator<char>(file), {}};
  }
  return files;
}

Verdict decode(const std::string& input) {
  return decode_tagged(std::as_bytes(std::span(input)));
}

bool is_golden(const std::string& name) {
  return name.starts_with("valid_");
}

TEST_CASE("golden_messages_are_still_understood") {
  for (const auto& [name, input] : corpus()) {
    INFO(name);
    CHECK(decode(input) == (is_golden(name) ? Verdict::accepted : Verdict::rejected));
  }
}

TEST_CASE("every_decoder_has_a_golden_message_and_a_tag_of_its_own") {
  const auto files = corpus();
  for (const Decoder& decoder : decoders()) {
    INFO(decoder.name);
    CHECK(std::ranges::any_of(
        files, [&](const auto& file) { return is_golden(file.first) && file.second[0] == decoder.tag; }));
    CHECK(std::ranges::count(decoders(), decoder.tag, &Decoder::tag) == 1);
  }
}

TEST_CASE("no_part_of_a_message_is_a_message_and_nothing_may_follow_unnoticed") {
  for (const auto& [name, input] : corpus()) {
    if (!is_golden(name)) continue;
    INFO(name);
    for (std::size_t size = 1; size < input.size(); ++size) CHECK(decode(input.substr(0, size)) == Verdict::rejected);
    CHECK(decode(input + '\0') != Verdict::altered);
  }
}

TEST_CASE("damaged_messages_are_rejected_or_mean_what_they_say") {
  Random random(1);
  for (const auto& [name, input] : corpus()) {
    INFO(name);
    for (int i = 0; i < 2000; ++i) {
      std::string damaged = input;
      for (std::uint64_t hits = 1 + random.below(3); hits > 0 && damaged.size() > 1; --hits)
        damaged[1 + random.below(damaged.size() - 1)] = static_cast<char>(random.next());
      if (decode(damaged) == Verdict::altered) FAIL("after " << i << " others");
    }
  }
}

}  // namespace
}  // namespace hora::fuzz
