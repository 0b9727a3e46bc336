// The command line of dvla semantics.
#include "semantics_command.hpp"

#include <dvla/semantics/bank_file.hpp>

namespace cli {
namespace {

constexpr char about[] =
    "Meanings of classes, from images to a bank of vectors (DVLA-RL, section 4).\n"
    "\n"
    "  1  dvla semantics generate                      images -> texts: candidate attributes of every class\n"
    "  2  dvla semantics select                        texts -> texts: the k attributes that count, with all scores\n"
    "  3  dvla semantics generate --level description  texts -> texts: one sentence of the selected attributes\n"
    "  4  dvla semantics encode                        texts -> bank: BANK.safetensors and BANK.json beside it\n"
    "\n"
    "  dvla semantics show tells a class's story, check looks a file over, merge joins banks.\n"
    "meta-train and evaluate take the bank: --semantics BANK.safetensors.\n"
    "Example, with a model served on this machine (vLLM, llama.cpp, Ollama, ...):\n"
    "  dvla semantics generate --data cifar_fs --model Qwen2.5-VL-32B-Instruct --cache cache/llm --out candidates.json\n"
    "  dvla semantics select candidates.json --encoder clip:clip-vit-b16 -k 4 --out selected.json\n"
    "  dvla semantics generate --level description --texts selected.json --model Qwen2.5-VL-32B-Instruct --cache cache/llm --out "
    "texts.json\n"
    "  dvla semantics encode texts.json --encoder clip:clip-vit-b16 --out bank.safetensors";

constexpr char about_generate[] =
    "Asks a multimodal language model what classes look like.\n"
    "With --level attributes (default): reads --data, a folder of images a class or a data set with base, val and novel,\n"
    "shows --images of every class and writes candidate attributes. With --level description: reads --texts, asks for one\n"
    "sentence of each class's selected attributes and writes the texts with descriptions. Answers that are refusals,\n"
    "instructions, markup, too long or not in English are not used, and kept with the reason; a class without answer is\n"
    "named, and its name stands for it later (exit code 5).\n"
    "With --cache, answers are kept: a command that ended early asks only for what is missing. Without, Ctrl-C waits for what\n"
    "is under way and writes what there is; a second one does not. --recorded answers from a file,\n"
    "{\"classes\": {folder: {\"attributes\": [...], \"description\": \"...\"}}}.\n"
    "Example:\n"
    "  dvla semantics generate --data cifar_fs --model Qwen2.5-VL-32B-Instruct --dry-run\n"
    "  dvla semantics generate --data cifar_fs --model Qwen2.5-VL-32B-Instruct --cache cache/llm --out candidates.json";

constexpr char about_select[] =
    "Selects k attributes of every class's candidates; keeps every score of every step and why the others were dropped.\n"
    "progressive (the method): T = \"A photo of a NAME\"; k times the candidate nearest to T is taken and T grows by it. "
    "Repetitions and\n"
    "empty phrases are dropped, with --foreign also what fits other classes as well. one-shot: the k nearest to the first T at "
    "once.\n"
    "none: the first k.\n"
    "Example:\n"
    "  dvla semantics select candidates.json --encoder minilm:all-MiniLM-L6-v2 -k 4 --out selected.json";

constexpr char about_encode[] =
    "Encodes texts into a bank: vectors in OUT.safetensors, what each says, its score and origin in OUT.json.\n"
    "A model sees local vectors and a global one of every class. --levels says of what:\n"
    "  both         local: the selected attributes; global: the description\n"
    "  attributes   local: the selected attributes; global: their mean\n"
    "  description  both: the description\n"
    "  names        both: \"A photo of a NAME\"\n"
    "Where a text is missing or no description of anything, the class's name stands for it, which is told.\n"
    "Example:\n"
    "  dvla semantics encode texts.json --encoder minilm:all-MiniLM-L6-v2 --levels both --out bank.safetensors";

constexpr char about_show[] =
    "Tells the story of classes: candidates, scores by step, what was dropped and why, the description.\n"
    "Reads texts or a bank. Without a class, one line for each.\n"
    "Example:\n"
    "  dvla semantics show bank.safetensors apple";

constexpr char about_merge[] =
    "Joins banks of one encoder into one; also makes a bank of a published .pth, and with --unit or --centre normalises.\n"
    "Example:\n"
    "  dvla semantics merge base.safetensors novel.safetensors --out all.safetensors\n"
    "  dvla semantics merge CIFAR-FS_semantic_clip_cot.pth --centre --unit --out clip.safetensors";

constexpr char about_check[] =
    "Looks a bank or a file of texts over: classes of a data set that are missing, NaN, lengths, centring, classes that are\n"
    "nearly the same, fallbacks, texts that would not be used. Ends with code 1 where something makes the file unusable.\n"
    "Example:\n"
    "  dvla semantics check bank.safetensors --data cifar_fs";

/// Turns a bank's name without an ending into the file that is there, and refuses what is no file.
CLI::Validator bank_name() {
  return CLI::Validator(
      [](std::string& name) {
        name = dvla::bank_file(name).string();
        return std::filesystem::is_regular_file(name) ? std::string() : "there is no file " + name;
      },
      "FILE");
}

void add_encoder(CLI::App& app, encoder_options& o) {
  app.add_option("--encoder", o.encoder, "hashed, clip:FOLDER or minilm:FOLDER")->capture_default_str();
  app.add_option("--long-text", o.long_text, "of texts longer than the encoder takes: truncate, sentence-mean or chunk-mean")
      ->check(CLI::IsMember({"truncate", "sentence-mean", "chunk-mean"}))
      ->capture_default_str();
  app.add_option("--encoder-cache", o.cache, "folder where vectors of texts are kept");
  app.add_flag("--offline", o.offline, "with --encoder-cache: fail on the first text that is not in it, and name it");
}

void add_generate(CLI::App& app, generate_options& o) {
  app.add_option("--data", o.data, "images: base, val and novel, or a folder a class; not for --level description");
  app.add_option("--split", o.splits, "only these of base, val and novel")->check(CLI::IsMember({"base", "val", "novel"}));
  app.add_option("--level", o.level, "attributes or description")
      ->check(CLI::IsMember({"attributes", "description"}))
      ->capture_default_str();
  app.add_option("--texts", o.texts, "for --level description: texts with (selected) attributes")->check(CLI::ExistingFile);
  app.add_option("--names", o.names, "names of classes where folders do not tell them: a .json of {folder: name}")
      ->check(CLI::ExistingFile);
  app.add_option("--out", o.out, "the file of texts to write; not needed for --dry-run");
  app.add_option("--images", o.images, "images of a class that are shown; 0: none")->capture_default_str();
  app.add_option("--seed", o.seed, "of the choice of images, and for the model where it takes one")->capture_default_str();
  app.add_flag("--per-image", o.per_image, "ask about every image by itself; the class has the candidates of all");
  app.add_option("--most", o.most, "attributes asked for")->check(CLI::Range(std::size_t{1}, std::size_t{64}))->capture_default_str();
  app.add_option("--recorded", o.recorded, "answers from this file instead of a model's")->check(CLI::ExistingFile);
  app.add_option("--cache", o.cache, "folder where answers are kept");
  app.add_flag("--refresh", o.refresh, "ask for answers that are in --cache too, and replace them");
  app.add_flag("--offline", o.offline, "ask nobody: fail on the first answer that is not in --cache, and name it");
  app.add_flag("--dry-run", o.dry_run, "print what would be asked and an estimate of tokens; ask and write nothing");
  app.add_option("--base-url", o.base_url, "of a chat-completions server")->capture_default_str();
  app.add_option("--model", o.model, "as the server names it");
  app.add_option("--provider", o.provider, "a label for the cache's keys, which do not hold the address")->capture_default_str();
  app.add_option("--api-key-env", o.key_variable, "the environment variable that holds the key");
  app.add_option("--ca-file", o.ca_file, "certificate authorities to trust instead of the system's");
  app.add_option("--extra-body", o.extra_body,
                 "JSON that every request also carries, for what a server has of its own: '{\"top_k\": 1}'");
  app.add_option("--concurrency", o.concurrency, "requests at once")->capture_default_str();
  app.add_option("--max-tokens", o.max_tokens, "of an answer")->capture_default_str();
  app.add_option("--max-requests", o.max_requests, "end after so many requests; 0: no limit")->capture_default_str();
  app.add_option("--max-total-tokens", o.max_total_tokens, "end after so many tokens, asked and answered; 0: no limit")
      ->capture_default_str();
}

void add_select(CLI::App& app, select_options& o) {
  app.add_option("texts", o.texts, "texts with candidate attributes")->required()->check(CLI::ExistingFile);
  app.add_option("--out", o.out, "the file of texts to write")->required();
  add_encoder(app, o.encoder);
  app.add_option("--mode", o.mode, "progressive, one-shot or none")
      ->check(CLI::IsMember({"progressive", "one-shot", "none"}))
      ->capture_default_str();
  app.add_option("-k,--attributes", o.k, "attributes of a class to keep")->capture_default_str();
  app.add_option("--duplicate", o.duplicate,
                 "progressive: a candidate with this cosine to one taken says the same; 2: equal words only")
      ->capture_default_str();
  app.add_option("--foreign", o.foreign,
                 "progressive: drop what fits the class less than this many deviations better than the others (off)");
}

void add_encode(CLI::App& app, encode_options& o) {
  app.add_option("texts", o.texts, "texts, as generate and select write them")->required()->check(CLI::ExistingFile);
  app.add_option("--out", o.out, "the bank: OUT.safetensors and OUT.json")->required();
  add_encoder(app, o.encoder);
  app.add_option("--levels", o.levels, "what a model sees: both, attributes, description or names")
      ->check(CLI::IsMember({"both", "attributes", "description", "names"}))
      ->capture_default_str();
  app.add_option("--phrases", o.phrases, "the most attributes of a class; 0: all that are selected")->capture_default_str();
  app.add_flag("--from-intrinsic", o.from_intrinsic, "encode intrinsic phrases instead of attributes and description (DVLA-RL++)");
  app.add_flag("--no-roles", o.no_roles, "leave nuisance phrases out");
  app.add_flag("--centre", o.centre, "subtract the mean over all classes (meta-train does so by the base classes)");
  app.add_flag("--unit", o.unit, "scale to unit length");
}

}  // namespace

void add_semantics(CLI::App& tool, semantics_options& o) {
  auto& app = *tool.add_subcommand("semantics", about);
  app.require_subcommand(1);
  add_generate(*app.add_subcommand("generate", about_generate), o.generate);
  add_select(*app.add_subcommand("select", about_select), o.select);
  add_encode(*app.add_subcommand("encode", about_encode), o.encode);
  auto& show = *app.add_subcommand("show", about_show);
  show.add_option("file", o.show.file, "texts (.json) or a bank (.safetensors, .pth; its name without an ending will do)")
      ->required()
      ->transform(bank_name());
  show.add_option("classes", o.show.classes, "folders of classes");
  auto& merge = *app.add_subcommand("merge", about_merge);
  merge.add_option("banks", o.merge.banks, "banks (.safetensors, .pth; a name without an ending will do)")
      ->required()
      ->transform(bank_name());
  merge.add_option("--out", o.merge.out, "the bank to write")->required();
  merge.add_option("--on-clash", o.merge.on_clash, "of a class that two banks have: refuse, or keep the first or the last")
      ->check(CLI::IsMember({"refuse", "first", "last"}))
      ->capture_default_str();
  merge.add_flag("--centre", o.merge.centre, "subtract the mean over all classes");
  merge.add_flag("--unit", o.merge.unit, "scale to unit length");
  auto& check = *app.add_subcommand("check", about_check);
  check.add_option("file", o.check.file, "texts (.json) or a bank (.safetensors, .pth; its name without an ending will do)")
      ->required()
      ->transform(bank_name());
  check.add_option("--data", o.check.data, "a data set whose classes must be there")->check(CLI::ExistingDirectory);
}

void run_semantics(CLI::App const& tool, semantics_options const& o) {
  auto const& app = *tool.get_subcommand("semantics");
  if (app.got_subcommand("generate")) semantics_generate(o.generate);
  if (app.got_subcommand("select")) semantics_select(o.select);
  if (app.got_subcommand("encode")) semantics_encode(o.encode);
  if (app.got_subcommand("show")) semantics_show(o.show);
  if (app.got_subcommand("merge")) semantics_merge(o.merge);
  if (app.got_subcommand("check")) semantics_check(o.check);
}

}  // namespace cli
