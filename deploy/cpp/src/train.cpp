// adnext_train_cpp: trains the PoliMI CNN on prepared volumes, as its paper has it: Adam, cross-entropy, blur half of the
// time, random cuts of 96 voxels, and the epoch of the smallest validation loss is kept.
#include <torch/torch.h>

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <map>
#include <sstream>

#include "polimi.h"
#include "program.h"
#include "training_data.h"

namespace {

using adnext::UserError;

constexpr const char* kUsage =
    "usage: adnext_train_cpp TABLE.csv --classes A,B -o WEIGHTS.safetensors [options]\n"
    "  TABLE            columns file (.npy, relative to the table), class, part (train or validation)\n"
    "  --epochs 100  --batch 36  --rate 1.8e-3  --crop 96  --blur 1.5  --expansion 8  --seed 0  --threads N\n"
    "  --weights FILE   begin with these instead of fresh ones\n"
    "  --steps N        stop after so many steps\n"
    "  --as-listed      no augmentation, and cases in the table's order\n";

struct Options {
  std::string table, output, weights;
  std::vector<std::string> classes;
  std::int64_t epochs = 100, batch = 36, expansion = 8, seed = 0, threads = 0, steps = 0;
  double rate = 1.8e-3;
  adnext::Augmentation augmentation;
  bool as_listed = false;
};

double number(const std::string& text, const std::string& name, double least) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !(value >= least))
    throw UserError(name + " must be a number of at least " + std::to_string(least) + ", got " + text);
  return value;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

Options options_of(int count, char** arguments) {
  Options options;
  std::map<std::string, std::pair<std::int64_t*, double>> whole{
      {"--epochs", {&options.epochs, 1}},       {"--batch", {&options.batch, 1}}, {"--expansion", {&options.expansion, 1}},
      {"--seed", {&options.seed, 0}},           {"--threads", {&options.threads, 1}}, {"--steps", {&options.steps, 1}},
      {"--crop", {&options.augmentation.crop, 1}}};
  std::map<std::string, std::string*> texts{
      {"-o", &options.output}, {"--output", &options.output}, {"--weights", &options.weights}};
  std::map<std::string, double*> real{{"--rate", &options.rate}, {"--blur", &options.augmentation.blur_sigma}};
  for (int i = 1; i < count; ++i) {
    const std::string word = arguments[i];
    if (word == "--as-listed") {
      options.as_listed = true;
      options.augmentation.is_on = false;
      continue;
    }
    if (!word.starts_with("-")) {
      if (!options.table.empty()) throw UserError("one table is needed, got " + options.table + " and " + word);
      options.table = word;
      continue;
    }
    if (i + 1 == count) throw UserError(word + " needs a value");
    const std::string value = arguments[++i];
    if (const auto at = whole.find(word); at != whole.end())
      *at->second.first = static_cast<std::int64_t>(number(value, word, at->second.second));
    else if (const auto text = texts.find(word); text != texts.end()) *text->second = value;
    else if (const auto at_real = real.find(word); at_real != real.end()) *at_real->second = number(value, word, 0);
    else if (word == "--classes") options.classes = split(value);
    else throw UserError("there is no option " + word + "; see --help");
  }
  if (options.table.empty() || options.output.empty()) throw UserError("give a table and -o WEIGHTS.safetensors; see --help");
  return options;
}

std::vector<std::vector<adnext::Case>> batches_of(std::vector<adnext::Case> cases, std::int64_t size, bool shuffle,
                                                  std::mt19937_64& random) {
  if (shuffle) std::shuffle(cases.begin(), cases.end(), random);
  std::vector<std::vector<adnext::Case>> batches;
  for (std::size_t start = 0; start < cases.size(); start += static_cast<std::size_t>(size)) {
    const auto stop = std::min(cases.size(), start + static_cast<std::size_t>(size));
    batches.emplace_back(cases.begin() + static_cast<std::ptrdiff_t>(start), cases.begin() + static_cast<std::ptrdiff_t>(stop));
  }
  return batches;
}

double loss_on(adnext::Polimi& network, const std::vector<adnext::Case>& cases, const Options& options,
               std::mt19937_64& random) {
  const torch::NoGradGuard guard;
  network->eval();
  auto middle = options.augmentation;
  middle.is_on = false;
  double sum = 0;
  for (const auto& part : batches_of(cases, options.batch, false, random)) {
    const auto batch = adnext::batch_of(part, middle, random);
    sum += torch::nn::functional::cross_entropy(network->forward(batch.images), batch.labels).item<double>() *
           static_cast<double>(part.size());
  }
  return sum / static_cast<double>(cases.size());
}

// Every step's loss goes to standard output; true when the steps asked for are done
bool train_epoch(adnext::Polimi& network, torch::optim::Adam& optimiser, const adnext::Cohort& cohort,
                 const Options& options, std::mt19937_64& random, std::int64_t& step) {
  network->train();
  for (const auto& part : batches_of(cohort.train, options.batch, !options.as_listed, random)) {
    const auto batch = adnext::batch_of(part, options.augmentation, random);
    optimiser.zero_grad();
    const auto loss = torch::nn::functional::cross_entropy(network->forward(batch.images), batch.labels);
    loss.backward();
    optimiser.step();
    const double value = loss.item<double>();
    if (!std::isfinite(value)) throw UserError("the loss is not finite; use a smaller --rate");
    std::cout << "step " << ++step << " loss " << value << std::endl;
    if (step == options.steps) return true;
  }
  return false;
}

void run(const Options& options) {
  if (options.threads > 0) torch::set_num_threads(static_cast<int>(options.threads));
  const auto cohort = adnext::read_table(options.table, options.classes);
  torch::manual_seed(static_cast<std::uint64_t>(options.seed));
  std::mt19937_64 random(static_cast<std::uint64_t>(options.seed));
  adnext::Polimi network(adnext::input_shape(cohort.train.front(), options.augmentation),
                         static_cast<std::int64_t>(cohort.classes.size()), options.expansion);
  if (!options.weights.empty()) adnext::read_weights(*network, options.weights);
  torch::optim::Adam optimiser(network->parameters(), torch::optim::AdamOptions(options.rate));
  double best = std::numeric_limits<double>::infinity();
  std::cout.precision(8);
  std::int64_t step = 0;
  bool done = false;
  for (std::int64_t epoch = 0; epoch < options.epochs && !done; ++epoch) {
    done = train_epoch(network, optimiser, cohort, options, random, step);
    const double loss = loss_on(network, cohort.validation, options, random);
    std::cout << "epoch " << epoch << " validation " << loss << (loss < best ? " best" : "") << std::endl;
    if (loss < best) {
      best = loss;
      adnext::write_weights(*network, options.output);
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  return adnext::as_program(count, arguments, kUsage, "there is not enough memory; use a smaller --batch",
                            [](int words, char** given) {
                              run(options_of(words, given));
                              return 0;
                            });
}
