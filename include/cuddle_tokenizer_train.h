/* cuddle_tokenizer_train.h - makes a tokenizer from text, with the results of Hugging Face's trainers.
 *
 * Feed texts or files, then take a tokenizer.json. The same input and options give the vocabulary and the
 * merges of the tokenizers package (0.23): pairs merge by count, of equal counts the one with the smaller ids.
 * Where that package depends on the order of its hash tables (ids of continuing characters in WORDPIECE, so
 * a few ties; which of equally rare characters a limited alphabet drops; in UNIGRAM the order of words, so the last
 * bits of sums, and of characters with equal scores), this one takes what it saw first, drops the larger code point,
 * and puts the smaller one first. Given the words in that package's order, UNIGRAM's scores are its own on one thread
 * to the last bit.
 * A trainer is one caller's.   Read first: cuddle_tokenizer.h.   Tests: tests/unit/test_train.c
 */
#ifndef CUDDLE_TOKENIZER_TRAIN_H
#define CUDDLE_TOKENIZER_TRAIN_H

#include "cuddle.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuddle_trainer cuddle_trainer;

typedef enum {
    CUDDLE_TRAIN_BPE, CUDDLE_TRAIN_WORDPIECE, CUDDLE_TRAIN_UNIGRAM, CUDDLE_TRAIN_WORDLEVEL
} cuddle_train_model;

/* How texts are cut into words before tokens are learned, and how tokens become text again. */
typedef enum {
    CUDDLE_TRAIN_CUT_DEFAULT,     /* BPE: BYTE_LEVEL, WORDPIECE: BERT, UNIGRAM: METASPACE,
                                     WORDLEVEL: WHITESPACE                                      */
    CUDDLE_TRAIN_CUT_BYTE_LEVEL,  /* GPT-2: its pattern, every byte a character; no unknown     */
    CUDDLE_TRAIN_CUT_METASPACE,   /* SentencePiece: spaces are U+2581 and begin words           */
    CUDDLE_TRAIN_CUT_BERT,        /* BERT, cased: spaces are dropped, punctuation stands alone  */
    CUDDLE_TRAIN_CUT_BERT_LOWER,  /* BERT, uncased                                              */
    CUDDLE_TRAIN_CUT_WHITESPACE   /* \w+|[^\w\s]+                                               */
} cuddle_train_cut;

/* Zero the struct, set size = sizeof it; a zero field means the default. Texts are copied. */
typedef struct {
    size_t size;
    cuddle_train_model model;
    cuddle_train_cut cut;
    uint32_t vocab_size;                /* special tokens and alphabet included; default: 30000,
                                           UNIGRAM: 8000                                           */
    uint64_t min_frequency;             /* of a pair that is merged, of a word; default: 1         */
    uint32_t limit_alphabet;            /* the most frequent characters; default: all              */
    uint32_t token_chars_max;           /* default: no limit                                       */
    const char *const *special_tokens;  /* [n_special], ids from 0                                 */
    size_t n_special;
    const char *unk_token;              /* default: none (byte level), "[UNK]" (WORDPIECE), "<unk>";
                                           it leads the special tokens unless it is one of them    */
    const char *continuing_prefix;      /* default: "##" (WORDPIECE), none                         */
    const char *normalizer;             /* JSON as in a tokenizer.json, instead of the cut's own   */
    const char *pre_tokenizer;
    const char *decoder;
    cuddle_progress_fn progress;        /* or NULL                                                 */
    void *user;
    const char *initial_alphabet;       /* characters that are tokens even if no text has them     */
    bool no_byte_alphabet;              /* BYTE_LEVEL: only bytes that stand in the texts          */
    bool unk_apart;                     /* the unknown token is none of the special ones by itself */
    const char *end_suffix;             /* BPE: end_of_word_suffix; default: none                  */
    double shrinking_factor;            /* UNIGRAM: pieces kept a round; default: 0.75             */
    uint32_t em_steps;                  /* UNIGRAM: n_sub_iterations; default: 2                   */
    uint32_t piece_chars_max;           /* UNIGRAM: max_piece_length; default: 16                  */
    uint32_t seed_size;                 /* UNIGRAM: pieces at first; default: 1000000              */
    uint32_t threads;                   /* default: the processors; any number gives the same      */
} cuddle_train_opts;

/* Errors: ARG (a value out of range), FORMAT and UNSUPPORTED (a part's JSON), NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_trainer_new(cuddle_trainer **out, const cuddle_train_opts *opts);
CUDDLE_API void cuddle_trainer_free(cuddle_trainer *t);

/* Counts the words of one text. Errors: ARG (not UTF-8, over 2 GiB), NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_trainer_feed(cuddle_trainer *t, const char *text, size_t n);
/* Counts the words of a file; each line, with its end, is one text. Errors: also NOTFOUND, IO, CANCELLED. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_trainer_feed_file(cuddle_trainer *t, const char *path);

/* Learns from what was fed; *json, *n bytes, is borrowed until the next call. More may be fed afterwards.
 * Errors: ARG (no text, a vocabulary smaller than the alphabet), CANCELLED, NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_trainer_train(cuddle_trainer *t, const char **json, size_t *n);
/* The same into a file, which appears when it is complete. Errors: also IO. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_trainer_save(cuddle_trainer *t, const char *path);

#ifdef __cplusplus
}
#endif
#endif
