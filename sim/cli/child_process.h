// A program that runs beside this one: its standard output is read line by line, its standard input is a pipe whose closing
// tells it that no more will come. It is not hit by a Ctrl-C meant for us (own process group).
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace strait::cli {

class ChildProcess {
 public:
  // `arguments[0]` is the program's path. `on_line` is called from a thread of its own. Standard error is inherited, or goes to the
  // file `errors`. Throws std::system_error if it cannot be started.
  ChildProcess(const std::vector<std::string>& arguments,
               std::function<void(const std::string&)> on_line, const std::string& errors = "");
  // Closes its input and waits for it.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void close_input();
  // Asks it to end (SIGTERM); wait() says how it did.
  void terminate();
  // Waits for its end and the last line; 128 + n when ended by signal n. Idempotent.
  int wait();
  // Still running, as far as is known.
  bool running();

 private:
  void reap(bool block);

  pid_t pid_ = -1;
  int input_ = -1, output_ = -1;
  int status_ = -1;
  std::thread reader_;
};

// Called first thing by programs that ChildProcess starts: if it was one that started this one, this one ends, at once, when that one
// does, however it does; so that nobody writes into a run directory after a kill. Otherwise does nothing.
void end_with_parent();

// The path of the program that PATH names so; "" where there is none.
std::string program_on_path(const std::string& name);

// Where a program of this build or installation lies: beside the running one. Throws std::runtime_error naming the path.
std::string sibling_program(const std::string& name);

}  // namespace strait::cli
