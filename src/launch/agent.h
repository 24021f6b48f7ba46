// `hora agent`: the launcher's hand on another host. Started there by a remote shell, it starts processes, passes on
// what they write and how they end, and kills them when the connection to the launcher ends.
#pragma once

namespace hora::launch {

// Speaks the messages of agent_messages.h over standard input and output until the launcher is gone. Returns the exit
// status. Takes over the children of this process; call it from the main thread while there is no other.
int run_agent();

}  // namespace hora::launch
