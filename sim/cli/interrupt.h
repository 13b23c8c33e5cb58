// Ctrl-C for commands that clean up after themselves: the first one is noted, the second ends the program at once.
#pragma once

namespace strait::cli {

// SIGINT and SIGTERM set the flag from now on, once.
void note_interrupts();
bool interrupted();

}  // namespace strait::cli
