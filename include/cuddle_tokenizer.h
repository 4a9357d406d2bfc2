/* cuddle_tokenizer.h - text to token ids and back, with the results of Hugging Face's tokenizers.
 *
 * A tokenizer is read-only after open and usable from many threads; an encoding is one caller's
 * memory, reused from call to call. Texts are UTF-8; offsets count code points of the text given.
 * Read first: cuddle.h.   Tests: tests/unit/test_tokenizer.c, test_decode_stream.c, tests/fuzz/fuzz_tokenizer.c
 */
#ifndef CUDDLE_TOKENIZER_H
#define CUDDLE_TOKENIZER_H

#include "cuddle.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuddle_tokenizer cuddle_tokenizer;
typedef struct cuddle_encoding cuddle_encoding;

/* path: a tokenizer.json, or an older kind of file, known by its name and content: vocab.json (with merges.txt beside
 * it: byte-level BPE), vocab.txt (BERT's), SentencePiece's .model, tiktoken's ranks, tekken.json. They become what
 * transformers makes of them; no special tokens are put around a text but BERT's.
 * Errors: NOTFOUND, IO, FORMAT (names the key), UNSUPPORTED, NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_open(cuddle_tokenizer **out, const char *path);
/* The same from n bytes of JSON; name starts the errors. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_parse(cuddle_tokenizer **out, const char *json, size_t n,
        const char *name);
/* Any of these files as the text of a tokenizer.json, *n bytes and a NUL; free it with cuddle_tokenizer_text_free. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_convert(const char *path, char **json, size_t *n);
CUDDLE_API void cuddle_tokenizer_close(cuddle_tokenizer *t);

/* Entries of the vocabulary, added tokens among them: the largest id + 1. */
CUDDLE_API uint32_t cuddle_tokenizer_vocab(const cuddle_tokenizer *t);
/* The token's text as the vocabulary has it ("Ġthe"), *n bytes; NULL when there is no such id. */
CUDDLE_API const char *cuddle_tokenizer_token(const cuddle_tokenizer *t, int32_t id, size_t *n);
/* The id of a token's text, or -1. */
CUDDLE_API int32_t cuddle_tokenizer_id(const cuddle_tokenizer *t, const char *token, size_t n);
/* Whether the id is an added token marked special. */
CUDDLE_API bool cuddle_tokenizer_is_special(const cuddle_tokenizer *t, int32_t id);
/* Whether the model's own vocabulary has the id. */
CUDDLE_API bool cuddle_tokenizer_in_model(const cuddle_tokenizer *t, int32_t id);
/* How many special tokens are put around a text, or a text and its pair. */
CUDDLE_API size_t cuddle_tokenizer_added_count(const cuddle_tokenizer *t, bool pair);

/* ---- Changes: while nobody else uses the tokenizer ---- */

typedef enum { CUDDLE_TRUNCATE_LONGEST_FIRST, CUDDLE_TRUNCATE_ONLY_FIRST, CUDDLE_TRUNCATE_ONLY_SECOND } cuddle_truncate;

typedef struct {
    size_t size;
    size_t max_length, stride; /* tokens, special ones included; what two parts have in common */
    cuddle_truncate strategy;
    bool left;
} cuddle_truncation;

/* Instead of the file's; NULL: none. Errors: ARG (over 2^31 - 1). */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_set_truncation(cuddle_tokenizer *t, const cuddle_truncation *o);

typedef struct {
    size_t size;
    size_t length;             /* with fixed; else the longest of a batch */
    size_t multiple_of;        /* 0: any length                           */
    const char *token;         /* copied                                  */
    int32_t id;
    uint8_t type;
    bool fixed, left;
} cuddle_padding;

/* Instead of the file's; NULL: none. Errors: ARG (over 2^20, no id), NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_set_padding(cuddle_tokenizer *t, const cuddle_padding *o);

typedef struct {
    const char *content;
    size_t n;
    bool single_word, lstrip, rstrip, normalized, special;
} cuddle_added_token;

/* Adds tokens behind the vocabulary, or changes how ones that are there are found. *added: those that were not
 * there in just this way. Errors: ARG (not UTF-8), NOMEM; then the tokenizer is only good for closing. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_add_tokens(cuddle_tokenizer *t, const cuddle_added_token *v,
        size_t n, size_t *added);

/* on: special tokens that stand in a text are text like any other. */
CUDDLE_API void cuddle_tokenizer_set_encode_special(cuddle_tokenizer *t, bool on);

/* ---- Encoding ---- */

/* Zero the struct, set size = sizeof it; a zero field means the default. */
typedef struct {
    size_t size;
    const char *pair;          /* a second text, or NULL                                        */
    size_t n_pair;
    bool no_special_tokens;    /* leaves out what the post-processor adds                       */
    bool ids_only;             /* no offsets, masks, words or texts: faster                     */
    bool no_truncation;        /* ignores the file's truncation and padding                     */
    bool no_padding;
    bool byte_offsets;         /* offsets count bytes, not code points                          */
    bool valid_utf8;           /* texts are known to be UTF-8, as Python's are: they are not checked */
    const size_t *word_ends;   /* [n_words]: the text is words that end there, each cut alone:  */
    size_t n_words;            /* offsets count from a word's begin, words are their numbers    */
    const size_t *pair_word_ends;
    size_t n_pair_words;
    uint64_t seed;             /* of BPE's dropout: the same seed gives the same tokens         */
} cuddle_encode_opts;

CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_encoding_new(cuddle_encoding **out);
CUDDLE_API void cuddle_encoding_free(cuddle_encoding *e);

/* Encodes n bytes of text into e, replacing what it held. opts may be NULL.
 * Errors: ARG (not UTF-8, over 2 GiB), FORMAT (the model has no token for a piece), NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_encode(const cuddle_tokenizer *t, cuddle_encoding *e,
        const char *text, size_t n, const cuddle_encode_opts *opts);

/* ---- Parts alone ---- */

/* What the normalizer makes of a text, *n_out bytes and a NUL; free it with cuddle_tokenizer_text_free. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_normalize(const cuddle_tokenizer *t, const char *text, size_t n,
        char **out, size_t *n_out);
/* The pieces that the pre-tokenizer makes of a text, into e: their texts and offsets; ids are -1. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_pre_tokenize(const cuddle_tokenizer *t, cuddle_encoding *e,
        const char *text, size_t n);
/* Truncation, the post-processor and padding on a text's tokens and its pair's (or NULL), into e, which is neither. Of
 * opts only no_special_tokens, no_truncation and no_padding count. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_post_process(const cuddle_tokenizer *t, cuddle_encoding *e,
        const cuddle_encoding *text, const cuddle_encoding *pair, const cuddle_encode_opts *opts);

/* ---- Batches ---- */

/* Threads that encode side by side, kept from batch to batch; one batch at a time. */
typedef struct cuddle_encode_pool cuddle_encode_pool;
/* threads: 0: as many as there are processors. Errors: NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_encode_pool_new(cuddle_encode_pool **out, uint32_t threads);
CUDDLE_API void cuddle_encode_pool_free(cuddle_encode_pool *p);

/* A text and its pair, as cuddle_encode_opts has them; the rest comes from the batch's options. */
typedef struct {
    const char *text, *pair;   /* pair: or NULL */
    size_t n, n_pair;
    const size_t *word_ends, *pair_word_ends;
    size_t n_words, n_pair_words;
} cuddle_encode_input;

/* Encodes n inputs into e [n] and pads them to a common length. Input i has the seed opts->seed + i.
 * pool: or NULL, the caller's thread alone. Errors: those of encode, of the first input that has one; the text's
 * number starts the message. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_encode_batch(const cuddle_tokenizer *t, cuddle_encode_pool *pool,
        cuddle_encoding *const *e, const cuddle_encode_input *in, size_t n, const cuddle_encode_opts *opts);

/* The ids of many texts one behind the other, with the memory that made them. */
typedef struct cuddle_ids cuddle_ids;
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_ids_new(cuddle_ids **out);
CUDDLE_API void cuddle_ids_free(cuddle_ids *x);

/* Ids alone, the fastest way: of texts [n] of so many bytes each, into out, replacing what it held; without padding.
 * pool: or NULL, the caller's thread alone. Errors: those of encode, of the first text that has one; ARG (opts name a
 * pair or words). */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_encode_ids(const cuddle_tokenizer *t, cuddle_encode_pool *pool,
        cuddle_ids *out, const char *const *texts, const size_t *lengths, size_t n, const cuddle_encode_opts *opts);
/* ids [offsets[n]]: text i's are those from offsets[i] to offsets[i + 1]. Borrowed until out is used again. */
CUDDLE_API void cuddle_ids_look(const cuddle_ids *x, const int32_t **ids, const size_t **offsets);

/* Texts in the memory of another language, whose strings are not UTF-8, as encode_ids takes them. */
typedef struct cuddle_texts cuddle_texts;
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_texts_new(cuddle_texts **out);
CUDDLE_API void cuddle_texts_free(cuddle_texts *x);

/* How that language gives its strings; for Python PyList_GetItem, PyUnicode_AsUTF8AndSize, GetLength and AsUCS4. */
typedef struct {
    size_t size;                                          /* bytes, set by the caller     */
    void *(*item)(void *list, ptrdiff_t i);               /* borrowed; NULL: there is none */
    const char *(*utf8)(void *string, ptrdiff_t *n);      /* in the string's own memory; NULL: it has none */
    ptrdiff_t (*length)(void *string);                    /* code points; below 0: it is no string */
    uint32_t *(*copy)(void *string, uint32_t *to, ptrdiff_t room, int nul); /* of its code points; NULL: failed */
} cuddle_string_calls;

/* Reads the first n strings of a list, replacing what x held. ascii [n]: which are ASCII: their own memory is taken.
 * The calls come on the caller's thread. Errors: NOMEM; ARG: a call failed, or a string has a surrogate. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_texts_read(cuddle_texts *x, const cuddle_string_calls *calls, void *list,
        const uint8_t *ascii, size_t n);
/* texts [n] and how many bytes each has; borrowed until x is used again, and as long as the strings are there. */
CUDDLE_API void cuddle_texts_look(const cuddle_texts *x, const char *const **texts, const size_t **lengths);

/* Pads n encodings of one batch, which were encoded with no_padding, to a common length as the
 * file says: the longest of them or a fixed one, rounded up; nothing when it has no padding. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_pad(const cuddle_tokenizer *t, cuddle_encoding *const *e,
        size_t n);

/* What an encoding holds; borrowed until it is used again. With ids_only all but n and ids are NULL. */
typedef struct {
    size_t size;               /* bytes, set by the caller                                      */
    size_t n;
    const int32_t *ids;        /* [n]                                                           */
    const uint32_t *offsets;   /* [n, 2]: first code point, and the one behind the last         */
    const int32_t *words;      /* [n]: the piece of the text, -1 for what was added             */
    const uint8_t *types;      /* [n]: 0 the text, 1 the pair, or as the template says          */
    const uint8_t *special;    /* [n]: 1 where the post-processor or padding added it           */
    const uint8_t *attention;  /* [n]: 0 where padding is                                       */
    size_t overflowing;        /* further encodings that truncation cut off                     */
    const uint8_t *sequences;  /* [n]: 0 of the text, 1 of the pair, 2 of neither               */
} cuddle_encoding_view;

CUDDLE_API void cuddle_encoding_look(const cuddle_encoding *e, cuddle_encoding_view *out);
/* The i-th token's text as it was found, *n bytes. */
CUDDLE_API const char *cuddle_encoding_token(const cuddle_encoding *e, const cuddle_tokenizer *t, size_t i, size_t *n);
/* All of them, one after the other; ends [n]: where each ends. Free *out with cuddle_tokenizer_text_free.
 * Errors: NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_encoding_texts(const cuddle_encoding *e, const cuddle_tokenizer *t,
        char **out, size_t *ends);
/* The i-th of the overflowing encodings; borrowed. */
CUDDLE_API const cuddle_encoding *cuddle_encoding_overflow(const cuddle_encoding *e, size_t i);

/* ---- Decoding ---- */

/* ids [n] to UTF-8 text, *n_out bytes and a NUL; free it with cuddle_tokenizer_text_free.
 * Unknown ids are left out, as Hugging Face does. Errors: NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_decode(const cuddle_tokenizer *t, const int32_t *ids, size_t n,
        bool skip_special, char **out, size_t *n_out);
CUDDLE_API void cuddle_tokenizer_text_free(char *text);
/* The same from the tokens' texts as the vocabulary has them: [n], of lengths [n] bytes.
 * Errors: ARG (not UTF-8), NOMEM. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_tokenizer_decode_tokens(const cuddle_tokenizer *t,
        const char *const *tokens, const size_t *lengths, size_t n, char **out, size_t *n_out);

/* Text from ids that come one by one: never half a UTF-8 character. */
typedef struct cuddle_decode_stream cuddle_decode_stream;
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_decode_stream_new(cuddle_decode_stream **out, const cuddle_tokenizer *t,
        bool skip_special);
CUDDLE_API void cuddle_decode_stream_free(cuddle_decode_stream *s);
/* What the id adds to the text, *n bytes, maybe none; borrowed until the next call. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_decode_stream_put(cuddle_decode_stream *s, int32_t id, const char **text,
        size_t *n);
/* What was held back: the bytes of an unfinished character, as U+FFFD. */
CUDDLE_API CUDDLE_CHECK cuddle_status cuddle_decode_stream_end(cuddle_decode_stream *s, const char **text, size_t *n);

#ifdef __cplusplus
}
#endif
#endif
