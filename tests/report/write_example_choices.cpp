// Writes a made-up document of tuned choices: write_example_choices OUT MODEL[,MODEL...] BITS[,BITS...]
//
// For the tests of the page, and to look at it without a GPU.

#include <cstdio>
#include <fstream>
#include <span>
#include <sstream>

#include "example_choices.h"

namespace {

std::vector<std::string> split(const std::string& list) {
  std::istringstream words(list);
  std::vector<std::string> result;
  for (std::string word; std::getline(words, word, ',');) result.push_back(word);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<char*> arguments(argv, static_cast<std::size_t>(argc));
  if (arguments.size() != 4) {
    std::fputs("usage: write_example_choices OUT MODEL[,MODEL...] BITS[,BITS...]\n", stderr);
    return 2;
  }
  lutsmith::test::ExampleChoices wanted{.models = split(arguments[2]), .bits = {}};
  for (const std::string& bits : split(arguments[3])) wanted.bits.push_back(std::stoi(bits));
  std::ofstream(arguments[1]) << lutsmith::choices::write_document(lutsmith::test::example_choices(wanted));
  return 0;
}
