#include "launch/line_tagger.h"

#include <catch2/catch.hpp>

namespace hora::launch {
namespace {

TEST_CASE("lines are tagged however they are cut") {
  const std::string text = "one\n\ntwo three\nfour\n";
  const std::string expected = "[7] one\n[7] \n[7] two three\n[7] four\n";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    LineTagger tagger("[7] ");
    std::string out = tagger.feed(text.substr(0, cut));
    out += tagger.feed(text.substr(cut));
    CHECK(out == expected);
    CHECK(tagger.finish().empty());
  }
}

TEST_CASE("an unfinished line waits for its end or the end of the stream") {
  LineTagger tagger("[0] ");
  CHECK(tagger.feed("half").empty());
  CHECK(tagger.feed(" and").empty());
  CHECK(tagger.finish() == "[0] half and\n");
  CHECK(tagger.finish().empty());
}

TEST_CASE("a line without end is cut at the limit") {
  LineTagger tagger("");
  const std::string part(LineTagger::kLineBytesMax, 'x');
  CHECK(tagger.feed(part + "yz\n") == part + "\nyz\n");
  CHECK(tagger.feed(part.substr(1)).empty());
  CHECK(tagger.feed("x") == part + "\n");
}

}  // namespace
}  // namespace hora::launch
