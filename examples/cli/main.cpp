// The tool dvla: pre-training, meta-tuning, evaluation, and what is in a checkpoint.
#include <CLI/CLI.hpp>

#include <dvla/io/checkpoint.hpp>
#include <dvla/version.hpp>

#include "files_command.hpp"
#include "model_tool.hpp"
#include "printable.hpp"
#include "ranks.hpp"
#include "run_support.hpp"
#include "semantics_command.hpp"

namespace {

constexpr char about[] =
    "dvla: few-shot image classification with semantics (DVLA-RL) and without.\n"
    "\n"
    "  1  dvla pretrain    base/ images -> OUT/model.safetensors, a backbone\n"
    "  2  dvla meta-train  backbone, base/ and val/ images, semantics -> OUT/best.safetensors\n"
    "  3  dvla evaluate    any checkpoint, novel/ images -> accuracy and 95 % interval\n"
    "\n"
    "  dvla semantics makes the meanings of classes: it asks a language model, selects, encodes.\n"
    "  dvla info tells what is in a checkpoint, dvla convert makes safetensors of PyTorch's files.\n"
    "A data set is a folder with base, val and novel, each with a folder of images a class.\n"
    "dvla COMMAND --help tells what a command reads and writes, with an example.";

constexpr char about_pretrain[] =
    "Trains a backbone to tell the base classes apart.\n"
    "Reads ROOT/base/<class>/* (and ROOT/val for the accuracies it shows); writes OUT/last.safetensors, from which --resume\n"
    "continues to the bit, and at the end OUT/model.safetensors.\n"
    "With --device cuda, in a build with NCCL, several cards share every batch, a process a card: mpirun starts them, or anything\n"
    "that sets RANK and WORLD_SIZE (LOCAL_RANK chooses the card; MASTER_ADDR and MASTER_PORT say where they meet). Rank 0 writes.\n"
    "Example:\n"
    "  dvla pretrain --data cifar_fs --in-memory --preprocess cifar --model visformer-small-32 --epochs 60 --out runs/backbone\n"
    "  mpirun -n 2 dvla pretrain --device cuda --batch 256 ...";

constexpr char about_meta[] =
    "Tunes a few-shot learner on episodes of base classes; validates after every epoch.\n"
    "Reads ROOT/base, ROOT/val, a backbone (--checkpoint) and the meanings of the classes (--semantics: a bank of `dvla semantics\n"
    "encode`, a published .pth, or a .json of texts, encoded by --encoder); writes OUT/last.safetensors, for --resume, and\n"
    "OUT/best.safetensors, best on validation. Classes that the bank lacks are named before anything starts.\n"
    "Example:\n"
    "  dvla meta-train --data cifar_fs --in-memory --checkpoint runs/backbone/model.safetensors --semantics cifar_fs.json\n"
    "       --way 5 --shot 1 --epochs 20 --drop-path 0 --out runs/dvla_rl";

constexpr char about_evaluate[] =
    "Measures accuracy over fixed episodes: those of the published code, with seed 0.\n"
    "Reads a checkpoint of meta-train, pretrain or a published file (.pth, .safetensors) and ROOT/SPLIT; what the checkpoint\n"
    "says of method, semantics and preprocessing holds unless given here. Prints mean +- 95 % interval; --json writes more.\n"
    "Example:\n"
    "  dvla evaluate --data cifar_fs --in-memory --checkpoint runs/dvla_rl/best.safetensors --shot 1 --json result.json";

constexpr char about_info[] =
    "Tells version, instruction set and threads; of a checkpoint its configuration, of a model its parameters.\n"
    "Example:\n"
    "  dvla info --checkpoint runs/dvla_rl/best.safetensors";

constexpr char about_convert[] =
    "Writes the tensors of a .pth or .safetensors file as safetensors; tells what was renamed or left out.\n"
    "Example:\n"
    "  dvla convert visformer_tiny.pth visformer_tiny.safetensors";

void add_data(CLI::App& app, cli::data_options& o) {
  app.add_option("--data", o.root, "data set: a folder with base, val and novel")->required();
  app.add_option("--preprocess", o.preprocess, "imagenet (256, centre crop 224; default), cifar, imagenet-short")
      ->check(CLI::IsMember({"imagenet", "cifar", "imagenet-short"}));
  app.add_flag("--in-memory", o.in_memory, "decode every image once and keep it on the host, where that prepares them");
}

void add_compute(CLI::App& app, cli::compute_options& o) {
  app.add_option("--device", o.device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}))->capture_default_str();
  app.add_option("--precision", o.precision, "of a card: f32 (strict), tf32 (default) or bf16")
      ->check(CLI::IsMember({"f32", "tf32", "bf16"}));
  app.add_option("--images-on", o.images_on,
                 "with a card: card (decoded once into its memory, prepared there), host, or auto (default): the card where they fit")
      ->check(CLI::IsMember({"auto", "card", "host"}));
}

void add_run(CLI::App& app, cli::run_options& o) {
  app.add_option("--out", o.out, "folder of the run")->required();
  app.add_option("--seed", o.seed, "of initialisation, order and every random draw")->capture_default_str();
  app.add_option("--threads", o.threads, "0: what the machine offers; results do not depend on it")->capture_default_str();
  app.add_option("--save-every", o.save_every, "steps between checkpoints; 0: about a minute")->capture_default_str();
  app.add_option("--max-minutes", o.max_minutes, "end after this time; a schedule is compressed to fit")->capture_default_str();
  app.add_flag("--resume", o.resume, "continue the run in --out, or begin it if there is none");
}

void add_learner(CLI::App& app, cli::learner_options& o) {
  app.add_option("--method", o.method, "dvla-rl, fixed-gate, mlp-gate or prototypical")
      ->check(CLI::IsMember({"dvla-rl", "fixed-gate", "mlp-gate", "prototypical"}));
  app.add_option("--semantics", o.semantics, "meanings of the classes: a bank (.safetensors, .pth; its name will do) or a .json of texts");
  app.add_option("--encoder", o.encoder, "of a .json of texts: hashed (default), clip:FOLDER or minilm:FOLDER");
  app.add_option("--phrases", o.phrases, "the most attributes of a class that a model sees (4)");
  app.add_option("--centre", o.centre, "subtract the mean vector of the base classes (true)");
  app.add_option("--unit", o.unit, "scale vectors to unit length (true)");
  app.add_option("--gate", o.gate, "the gate of fixed-gate, 0: text to 1: image (0.5)");
  app.add_option("--gate-scope", o.gate_scope, "a gate an episode or an image")->check(CLI::IsMember({"episode", "image"}));
  app.add_option("--semantics-scope", o.semantics_scope, "whose semantics an image sees")
      ->check(CLI::IsMember({"episode", "own-class"}));
  app.add_option("--padding", o.padding, "of the appended rows")->check(CLI::IsMember({"zero-rows", "none"}));
}

template <class Options>
void add_episode(CLI::App& app, Options& o) {
  app.add_option("--way", o.way, "classes of an episode")->capture_default_str();
  app.add_option("--shot", o.shot, "labelled images a class")->capture_default_str();
  app.add_option("--query", o.query, "images to classify a class")->capture_default_str();
}

void add_pretrain(CLI::App& app, cli::pretrain_options& o) {
  add_data(app, o.data);
  add_compute(app, o.compute);
  app.add_option("--model", o.model, "the backbone")->required()->check(CLI::IsMember(cli::model_names()));
  add_run(app, o.run);
  app.add_option("--epochs", o.epochs, "times every image is seen (published: 800)")->capture_default_str();
  app.add_option("--batch", o.batch, "images a step, of all processes together (published: 512)")->capture_default_str();
  app.add_option("--repeats", o.repeats, "times an image occurs in its batch, each augmented anew (published: 2)")
      ->capture_default_str();
  app.add_option("--lr", o.lr, "highest rate of AdamW")->capture_default_str();
  app.add_option("--weight-decay", o.weight_decay, "of AdamW")->capture_default_str();
  app.add_option("--warmup", o.warmup, "epochs of linear warm-up")->capture_default_str();
  app.add_option("--k-decay", o.k_decay, "exponent of the cosine's time (published: 0.1)")->capture_default_str();
  app.add_option("--label-smoothing", o.label_smoothing, "share of the target spread over all classes")->capture_default_str();
  app.add_option("--mixup", o.mixup, "Mixup's alpha; 0: off")->capture_default_str();
  app.add_option("--cutmix", o.cutmix, "CutMix's alpha; 0: off")->capture_default_str();
  app.add_option("--drop-path", o.drop_path, "rate at the last block (published: 0.5)")->capture_default_str();
  app.add_option("--augment", o.augment,
                 "published (resized crop, flip, RandAugment), pretrain (resized crop, flip, colours), crop (padded window, flip), none")
      ->check(CLI::IsMember({"published", "pretrain", "crop", "none", "episodic-cifar"}))
      ->capture_default_str();
  app.add_option("--smallest-area", o.smallest_area, "of a resized crop (published: 0.08)")->capture_default_str();
  app.add_option("--erasing", o.erasing, "probability of random erasing (published: 0.25)")->capture_default_str();
  app.add_option("--clip", o.clip, "largest gradient norm; 0: no clipping")->capture_default_str();
  app.add_option("--average", o.average, "decay of a moving average of the weights, which becomes the model; 0: none")
      ->capture_default_str();
  app.add_option("--validate-every", o.validate_every, "epochs between accuracies on val; 0: never")->capture_default_str();
}

void add_meta(CLI::App& app, cli::meta_options& o) {
  add_data(app, o.data);
  add_compute(app, o.compute);
  app.add_option("--checkpoint", o.checkpoint, "the backbone to begin with; without it, random weights")->check(CLI::ExistingFile);
  app.add_option("--model", o.model, "the backbone's configuration; known from a checkpoint of this tool")
      ->check(CLI::IsMember(cli::model_names()));
  add_run(app, o.run);
  add_learner(app, o.learner);
  add_episode(app, o);
  app.add_option("--epochs", o.epochs, "times the number of base images is seen")->capture_default_str();
  app.add_option("--episodes-per-epoch", o.episodes_per_epoch, "0: base images / images of an episode")->capture_default_str();
  app.add_option("--lr", o.lr, "rate of the new modules")->capture_default_str();
  app.add_option("--backbone-lr", o.backbone_lr, "rate of the backbone; 0: frozen")->capture_default_str();
  app.add_option("--weight-decay", o.weight_decay, "of AdamW")->capture_default_str();
  app.add_option("--drop-path", o.drop_path, "rate at the last block")->capture_default_str();
  app.add_option("--clip", o.clip, "largest gradient norm; 0: no clipping")->capture_default_str();
  app.add_option("--augment", o.augment, "none or episodic-cifar (flip, colours)")
      ->check(CLI::IsMember({"none", "episodic-cifar"}))
      ->capture_default_str();
  app.add_option("--validation-episodes", o.validation_episodes, "fixed episodes of val after every epoch")->capture_default_str();
}

void add_evaluate(CLI::App& app, cli::evaluate_options& o) {
  add_data(app, o.data);
  add_compute(app, o.compute);
  app.add_option("--checkpoint", o.checkpoint, "the model")->required()->check(CLI::ExistingFile);
  app.add_option("--model", o.model, "its configuration; known from a checkpoint of this tool")
      ->check(CLI::IsMember(cli::model_names()));
  add_learner(app, o.learner);
  add_episode(app, o);
  app.add_option("--episodes", o.episodes, "how many")->capture_default_str();
  app.add_option("--split", o.split, "whose classes")->check(CLI::IsMember({"base", "val", "novel"}))->capture_default_str();
  app.add_option("--seed", o.seed, "of the episodes; the published ones have 0")->capture_default_str();
  app.add_option("--threads", o.threads, "0: what the machine offers; results do not depend on it")->capture_default_str();
  app.add_option("--json", o.json, "file for accuracy, interval, every episode's accuracy and the configuration");
}

void add_info(CLI::App& app, cli::info_options& o) {
  app.add_option("--checkpoint", o.checkpoint, "a .pth or .safetensors file")->check(CLI::ExistingFile);
  app.add_flag("--device", o.device, "the card: its name, memory, driver, and what was compiled in");
  app.add_option("--model", o.model, "the model to tell of; without it and a checkpoint, all")
      ->check(CLI::IsMember(cli::model_names()));
  app.add_option("--threads", o.threads, "0: what the machine offers")->capture_default_str();
}

void add_convert(CLI::App& app, cli::convert_options& o) {
  app.add_option("from", o.from, "a .pth or .safetensors file")->required()->check(CLI::ExistingFile);
  app.add_option("to", o.to, "the safetensors file to write")->required();
  app.add_option("--strip", o.strip,
                 "keep only names that begin with this, without it; \"backbone.\" takes a backbone out of a learner");
}

/// The model that was asked for, or that the checkpoint says it is.
std::string model_name(std::optional<std::string> const& given, std::string const& checkpoint) {
  if (given) return *given;
  dvla::expect(!checkpoint.empty(), "no --model and no --checkpoint to know it from; give --model");
  auto const configuration = cli::configuration_of(dvla::open_tensors(checkpoint));
  dvla::expect(configuration.contains("model"), checkpoint, " does not say which model it is; give --model");
  return configuration.at("model").get<std::string>();
}

/// Sizes and seeds have no sign; CLI11 reads -1 as the largest number there is.
void refuse_negative(CLI::App& app) {
  for (auto* option : app.get_options())
    if (option->get_type_name().starts_with("UINT"))
      option->check([](std::string const& text) { return text.starts_with('-') ? text + " is negative" : std::string(); });
  for (auto* command : app.get_subcommands({})) refuse_negative(*command);
}

int run(int count, char** words) {
  CLI::App app{about, "dvla"};
  app.set_version_flag("--version", DVLA_VERSION_STRING);
  app.require_subcommand(1);
  cli::pretrain_options pretrain;
  cli::meta_options meta;
  cli::evaluate_options evaluate;
  cli::info_options info;
  cli::convert_options convert;
  cli::semantics_options semantics;
  add_pretrain(*app.add_subcommand("pretrain", about_pretrain), pretrain);
  add_meta(*app.add_subcommand("meta-train", about_meta), meta);
  add_evaluate(*app.add_subcommand("evaluate", about_evaluate), evaluate);
  add_info(*app.add_subcommand("info", about_info), info);
  add_convert(*app.add_subcommand("convert", about_convert), convert);
  cli::add_semantics(app, semantics);
  refuse_negative(app);
  try {
    app.parse(count, words);
  } catch (CLI::ParseError const& problem) {
    return app.exit(problem) == 0 ? 0 : 2;
  }
  if (app.got_subcommand("pretrain")) cli::make_model(pretrain.model, pretrain.compute)->pretrain(pretrain);
  if (app.got_subcommand("meta-train")) {
    cli::expect_one_process("dvla meta-train");
    cli::make_model(model_name(meta.model, meta.checkpoint), meta.compute)->meta_train(meta);
  }
  if (app.got_subcommand("evaluate"))
    cli::make_model(model_name(evaluate.model, evaluate.checkpoint), evaluate.compute)->evaluate(evaluate);
  if (app.got_subcommand("semantics")) cli::run_semantics(app, semantics);
  if (app.got_subcommand("info")) cli::info(info);
  if (app.got_subcommand("convert")) cli::convert(convert);
  return 0;
}

}  // namespace

int main(int count, char** words) {
  try {
    return run(count, words);
  } catch (cli::interrupted const& stopped) {
    std::fprintf(stderr, "dvla: %s\n", cli::printable(stopped.message).c_str());
    return 130;
  } catch (cli::incomplete const& rest) {
    std::fprintf(stderr, "dvla: %s\n", cli::printable(rest.message).c_str());
    return 5;
  } catch (std::exception const& problem) {
    std::fprintf(stderr, "dvla: %s\n", cli::printable(problem.what()).c_str());
    return 1;
  }
}
