/* cmd_tokenizer.c - `cuddle tokenizer`: a tokenizer.json from text files, or from older kinds of tokenizer files. */
#include <string.h>

#include "base/outfile.h"
#include "cli.h"
#include "cuddle_tokenizer.h"
#include "cuddle_tokenizer_train.h"

enum { FILES_MAX = 4096 };

static const char *model = "bpe", *out_path;
static int64_t vocab_size, min_frequency, limit_alphabet, token_chars_max, em_steps, piece_chars_max, seed_size,
    threads;
static bool byte_level, metaspace, bert, whitespace, lowercase;
static cli_list specials;
static cuddle_train_opts opts;

static const cli_option options[] = {
    { "output", 'o', CLI_STRING, &out_path, "FILE", "the tokenizer.json to write", 0, 0 },
    { "model", 'm', CLI_STRING, &model, "TYPE", "bpe, wordpiece, unigram or wordlevel (default: bpe)", 0, 0 },
    { "vocab-size", 'n', CLI_INT, &vocab_size, "N",
      "tokens, special ones included (default: 30000; unigram: 8000)", 1, 1 << 28 },
    { "min-frequency", 0, CLI_INT, &min_frequency, "N",
      "how often a pair must stand to be merged, or a word of wordlevel (default: 1)", 0, 0 },
    { "special-token", 's', CLI_LIST, &specials, "TEXT", "a special token; may be given several times", 0, 0 },
    { "unk-token", 0, CLI_STRING, &opts.unk_token, "TEXT",
      "the unknown token (default: [UNK] or <unk>, none for byte level)", 0, 0 },
    { "limit-alphabet", 0, CLI_INT, &limit_alphabet, "N", "keep the N most frequent characters", 1, 0x110000 },
    { "max-token-length", 0, CLI_INT, &token_chars_max, "N", "tokens stay shorter than N characters", 1, 1 << 30 },
    { "continuing-prefix", 0, CLI_STRING, &opts.continuing_prefix, "TEXT",
      "stands before tokens inside a word (default: ## for wordpiece)", 0, 0 },
    { "end-suffix", 0, CLI_STRING, &opts.end_suffix, "TEXT", "bpe: stands behind the last token of a word", 0, 0 },
    { "initial-alphabet", 0, CLI_STRING, &opts.initial_alphabet, "TEXT",
      "characters to have whether texts do or not", 0, 0 },
    { "seen-bytes", 0, CLI_FLAG, &opts.no_byte_alphabet, NULL,
      "byte level: only bytes that stand in the texts", 0, 0 },
    { "unigram", 0, CLI_HEADING, NULL, NULL, NULL, 0, 0 },
    { "shrinking-factor", 0, CLI_DOUBLE, &opts.shrinking_factor, "X",
      "pieces kept a round (default: 0.75)", 0.01, 0.99 },
    { "sub-iterations", 0, CLI_INT, &em_steps, "N", "times that scores are learned a round (default: 2)", 1, 1000 },
    { "max-piece-length", 0, CLI_INT, &piece_chars_max, "N", "characters of a piece (default: 16)", 1, 4096 },
    { "seed-size", 0, CLI_INT, &seed_size, "N", "pieces at first (default: 1000000)", 1, 1 << 28 },
    { "threads", 't', CLI_INT, &threads, "N", "threads, which do not change the result (default: all processors)", 1,
      1024 },
    { "how texts are cut", 0, CLI_HEADING, NULL, NULL, NULL, 0, 0 },
    { "byte-level", 0, CLI_FLAG, &byte_level, NULL, "as GPT-2 (default of bpe)", 0, 0 },
    { "metaspace", 0, CLI_FLAG, &metaspace, NULL, "as SentencePiece: spaces begin words (default of unigram)", 0, 0 },
    { "bert", 0, CLI_FLAG, &bert, NULL, "as BERT (default of wordpiece)", 0, 0 },
    { "lowercase", 0, CLI_FLAG, &lowercase, NULL, "as BERT, uncased", 0, 0 },
    { "whitespace", 0, CLI_FLAG, &whitespace, NULL, "words and runs of punctuation (default of wordlevel)", 0, 0 },
    { "normalizer", 0, CLI_STRING, &opts.normalizer, "JSON", "this one, as in a tokenizer.json", 0, 0 },
    { "pre-tokenizer", 0, CLI_STRING, &opts.pre_tokenizer, "JSON", "the same for the pre_tokenizer", 0, 0 },
    { "decoder", 0, CLI_STRING, &opts.decoder, "JSON", "the same for the decoder", 0, 0 },
};

static int run(char **args);
const cli_command cmd_tokenizer = {
    "tokenizer", "make a tokenizer from text files, or convert one",
    "train FILE... -o tokenizer.json [options]\n       cuddle tokenizer convert FILE -o tokenizer.json",
    "convert reads vocab.json (with merges.txt beside it), vocab.txt, SentencePiece's .model, .tiktoken,\n"
    "tekken.json.\n\n"
    "train: the files are UTF-8; each line is a text. The result is what Hugging Face's trainers give.\n\n"
    "  cuddle tokenizer train --vocab-size 32000 -s '<|endoftext|>' -o tokenizer.json corpus.txt\n"
    "  cuddle tokenizer train --model wordpiece --lowercase -s '[CLS]' -s '[SEP]' -o tokenizer.json corpus.txt\n",
    options, sizeof options / sizeof *options, 2, FILES_MAX + 1, run };

/* The model's number, or -1. */
static int find_model(void)
{
    static const char *const names[] = { "bpe", "wordpiece", "unigram", "wordlevel" };
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(model, names[i]) == 0)
            return i;
    return -1;
}

static int usage(const char *line)
{
    cli_fail("%s", line);
    return CLI_USAGE;
}

/* files: NULL after the last. */
static cuddle_status train(char **files)
{
    cuddle_trainer *t;
    cuddle_status st = cuddle_trainer_new(&t, &opts);
    for (; *files && st == CUDDLE_OK; files++)
        st = cuddle_trainer_feed_file(t, *files);
    if (st == CUDDLE_OK)
        st = cuddle_trainer_save(t, out_path);
    cli_progress_end();
    cuddle_trainer_free(t);
    return st;
}

static cuddle_status convert(const char *path)
{
    char *json = NULL;
    size_t n;
    CDL_TRY(cuddle_tokenizer_convert(path, &json, &n));
    cdl_outfile file;
    cuddle_status st = cdl_outfile_create(&file, out_path, n);
    if (st == CUDDLE_OK) {
        memcpy(file.data, json, n);
        st = cdl_outfile_finish(&file);
    }
    cuddle_tokenizer_text_free(json);
    return st;
}

static int run(char **args)
{
    bool converts = strcmp(args[0], "convert") == 0;
    if (!converts && strcmp(args[0], "train") != 0)
        return usage("the actions are train and convert: cuddle tokenizer train FILE... -o tokenizer.json");
    if (converts && args[2])
        return usage("convert takes one file");
    if (out_path && converts)
        return convert(args[1]) == CUDDLE_OK ? CLI_OK : cli_fail_status();
    if (!out_path)
        return usage("give -o FILE for the tokenizer.json");
    if (find_model() < 0)
        return usage("--model is bpe, wordpiece, unigram or wordlevel");
    if (byte_level + metaspace + (bert || lowercase) + whitespace > 1)
        return usage("--byte-level, --metaspace, --bert, --lowercase and --whitespace exclude each other");
    opts.size = sizeof opts;
    opts.model = (cuddle_train_model)find_model();
    opts.cut = byte_level ? CUDDLE_TRAIN_CUT_BYTE_LEVEL : metaspace ? CUDDLE_TRAIN_CUT_METASPACE
        : lowercase ? CUDDLE_TRAIN_CUT_BERT_LOWER : bert ? CUDDLE_TRAIN_CUT_BERT
        : whitespace ? CUDDLE_TRAIN_CUT_WHITESPACE : CUDDLE_TRAIN_CUT_DEFAULT;
    opts.vocab_size = (uint32_t)vocab_size;
    opts.min_frequency = min_frequency > 0 ? (uint64_t)min_frequency : 0;
    opts.limit_alphabet = (uint32_t)limit_alphabet;
    opts.token_chars_max = (uint32_t)token_chars_max;
    opts.em_steps = (uint32_t)em_steps;
    opts.piece_chars_max = (uint32_t)piece_chars_max;
    opts.seed_size = (uint32_t)seed_size;
    opts.threads = (uint32_t)threads;
    opts.special_tokens = specials.items;
    opts.n_special = specials.n;
    opts.progress = cli_progress;
    cli_catch_interrupt();
    return train(args + 1) == CUDDLE_OK ? CLI_OK : cli_fail_status();
}
