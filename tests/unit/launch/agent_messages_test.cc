#include "launch/agent_messages.h"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string_view>

#include "base/frame_socket.h"

namespace hora::launch {
namespace {

template <typename Message>
Message through_launcher(const Message& message) {
  auto decoded = decode_to_agent(encode(ToAgent(message)));
  REQUIRE(decoded.ok());
  return std::get<Message>(*decoded);
}

template <typename Message>
Message through_agent(const Message& message) {
  auto decoded = decode_from_agent(encode(FromAgent(message)));
  REQUIRE(decoded.ok());
  return std::get<Message>(*decoded);
}

TEST_CASE("messages to an agent are read as they were written") {
  const Setup setup = through_launcher(Setup{{"prog", "", "a b"}, "/some/where", 15'000});
  CHECK(setup.command == std::vector<std::string>{"prog", "", "a b"});
  CHECK(setup.directory == "/some/where");
  CHECK(setup.silence_ms == 15'000);
  const Start start = through_launcher(Start{7, {{"HORA_SECRET", "s"}, {"EMPTY", ""}}});
  CHECK(start.process == 7);
  CHECK(start.variables == Variables{{"HORA_SECRET", "s"}, {"EMPTY", ""}});
  CHECK(through_launcher(Signal{15}).signal == 15);
  CHECK(through_launcher(Taken{1ULL << 40}).bytes == 1ULL << 40);
  through_launcher(Alive{});
}

TEST_CASE("messages of an agent are read as they were written") {
  CHECK(through_agent(Ready{}).protocol == kAgentProtocol);
  CHECK(through_agent(Refused{"no"}).why == "no");
  CHECK(through_agent(NotStarted{3, "full"}).why == "full");
  const OutputBytes output = through_agent(OutputBytes{2, Stream::error, std::string("a\0b", 3)});
  CHECK(output.process == 2);
  CHECK(output.stream == Stream::error);
  CHECK(output.bytes == std::string("a\0b", 3));
  const Ended ended = through_agent(Ended{5, {0, 9}, true});
  CHECK(ended.exit == Exit{0, 9});
  CHECK(ended.out_of_memory);
  CHECK(through_agent(Ended{5, {.lost = true}, false}).exit.lost);
  through_agent(Alive{});
}

TEST_CASE("what is no message is refused") {
  const auto text = std::as_bytes(std::span(std::string_view("Last login: yesterday")));
  CHECK_FALSE(decode_from_agent(text).ok());
  CHECK_FALSE(decode_to_agent({}).ok());
  CHECK_FALSE(decode_to_agent(encode(ToAgent(Setup{{}, "/", 1}))).ok());        // no command
  CHECK_FALSE(decode_to_agent(encode(ToAgent(Setup{{"prog"}, "/", 0}))).ok());  // silent at once
  for (const auto& message : {encode(FromAgent(Ended{5, {0, 9}, true})), encode(FromAgent(OutputBytes{1, {}, "abc"}))})
    for (std::size_t length = 0; length < message.size(); ++length)
      CHECK_FALSE(decode_from_agent(std::span(message).first(length)).ok());
}

// sshd gives an agent pipes, not sockets.
TEST_CASE("messages pass through pipes") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
  const UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  FrameWriter writer;
  FrameReader reader;
  const std::string large(300'000, 'x');  // more than a pipe holds
  REQUIRE(writer.send(out.get(), encode(FromAgent(OutputBytes{1, Stream::output, large}))).ok());
  CHECK(writer.pending());
  for (;;) {
    auto frame = reader.next();
    REQUIRE(frame.ok());
    if (frame.value()) {
      CHECK(std::get<OutputBytes>(decode_from_agent(**frame).value()).bytes == large);
      break;
    }
    REQUIRE(writer.flush(out.get()).ok());
    REQUIRE(reader.fill(in.get()).ok());
  }
  CHECK(reader.fill(in.get()).code() == StatusCode::try_again);
  out.reset();
  CHECK(reader.fill(in.get()).code() == StatusCode::peer_failed);
}

}  // namespace
}  // namespace hora::launch
