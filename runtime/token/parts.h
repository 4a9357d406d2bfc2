/* parts.h - what the parts of a tokenizer share: pieces of text with their origins, and the tables
 * that tokenizer.json becomes.
 *
 * The way of a text: pieces are cut where added tokens stand (added.c), normalized (normalize.c), cut
 * further (split.c), given tokens by the model (bpe.c, unigram.c, wordpiece.c), framed (post.c).
 * A Sequence in tokenizer.json is flattened into the list it stands in. */
#ifndef CDL_TOKEN_PARTS_H
#define CDL_TOKEN_PARTS_H

#include "base/arena.h"
#include "base/buf.h"
#include "cuddle_tokenizer.h"
#include "token/regex.h"
#include "token/scan.h"
#include "token/trie.h"
#include "token/vocab.h"

/* Bytes of the original text that a byte of a piece comes from. */
typedef struct {
    uint32_t begin, end;
} cdl_align;

typedef struct {
    const char *s;
    const cdl_align *align;    /* [n]; NULL when nobody asked for offsets       */
    uint32_t n;
    uint32_t origin;           /* first byte of the original that it comes from */
    int32_t id;                /* an added token, or -1: still text             */
} cdl_piece;

typedef struct {
    int32_t id;
    uint32_t begin, end;       /* bytes of the piece                            */
    const char *value;         /* its text where the vocabulary has another, or NULL */
    uint32_t n_value;
} cdl_token;

typedef struct {
    uint32_t begin, end;
    bool match;
} cdl_cut;

typedef struct cdl_words cdl_words;

/* The memory of one encode; kept from call to call. */
typedef struct {
    cdl_arena arena;           /* texts and origins                             */
    size_t text_max;           /* bytes, and tokens, that a text may become; 0: any number */
    bool offsets;
    bool many;                 /* it is kept for many texts: what it remembers may take some MiB */
    cdl_piece *piece, *next;   /* the list, and the one that is being made      */
    size_t n, cap, n_next, cap_next;
    cdl_cut *cut;
    size_t n_cut, cap_cut;
    cdl_token *token;          /* of the piece at hand                          */
    size_t n_token, cap_token;
    char *edit;                /* a text that is being made, and its origins    */
    cdl_align *edit_align;
    size_t n_edit, cap_edit, cap_align;
    uint64_t random;           /* the state of dropout's choices                */
    bool continues;            /* the text goes on from another: nothing is put or stripped where it begins */
    void *scratch;             /* the model's                                   */
    size_t cap_scratch;
    cdl_scan_map map;          /* of the piece that is scanned                  */
    cdl_words *words;          /* words.c: common words                         */
} cdl_token_work;

void cdl_work_free(cdl_token_work *w);
/* Empties the memory for a text of n bytes that goes through so many parts. A small file can make a text of any length
 * of another: from here on what it becomes has a limit, far above what tokenizers do. */
void cdl_work_begin(cdl_token_work *w, size_t n, size_t parts);
/* Whether n tokens are within the limit. Errors: FULL. */
CUDDLE_CHECK cuddle_status cdl_work_check(const cdl_token_work *w, size_t n);
/* Grows *p to hold n items; a geometric step. */
CUDDLE_CHECK cuddle_status cdl_work_grow(void *p, size_t *cap, size_t n, size_t size);
CUDDLE_CHECK cuddle_status cdl_work_token(cdl_token_work *w, cdl_token t);
/* Adds bytes [begin, end) of a piece to the next list; nothing when they are none. */
CUDDLE_CHECK cuddle_status cdl_work_slice(cdl_token_work *w, const cdl_piece *p, uint32_t begin, uint32_t end,
        int32_t id);
/* The next list becomes the list. */
void cdl_work_turn(cdl_token_work *w);

/* Making a new text of a piece: begin, put, end (which replaces the piece's text). */
static inline void cdl_edit_begin(cdl_token_work *w)
{
    w->n_edit = 0;
}
CUDDLE_CHECK cuddle_status cdl_edit_put(cdl_token_work *w, const char *s, size_t n, cdl_align align);
CUDDLE_CHECK cuddle_status cdl_edit_put_cp(cdl_token_work *w, uint32_t cp, cdl_align align);
/* Bytes of the piece as they are. */
CUDDLE_CHECK cuddle_status cdl_edit_copy(cdl_token_work *w, const cdl_piece *p, uint32_t begin, uint32_t end);
CUDDLE_CHECK cuddle_status cdl_edit_end(cdl_token_work *w, cdl_piece *p);
/* Each byte c of the piece becomes a text. */
CUDDLE_CHECK cuddle_status cdl_edit_replace(cdl_token_work *w, cdl_piece *p, char c, const char *text, uint32_t n);
/* Each byte of the piece becomes the character that byte-level vocabularies write for it. */
CUDDLE_CHECK cuddle_status cdl_edit_bytes(cdl_token_work *w, cdl_piece *p);

/* The origin of byte i, and what something inserted before byte i gets (its predecessor's). */
static inline cdl_align cdl_align_at(const cdl_piece *p, uint32_t i)
{
    return p->align ? p->align[i] : (cdl_align){ 0, 0 };
}
static inline cdl_align cdl_align_before(const cdl_piece *p, uint32_t i)
{
    return p->align && i ? p->align[i - 1] : (cdl_align){ p->origin, p->origin };
}

/* ---- A pattern: a regular expression, known ones scanned by hand, or a text ---- */

typedef struct {
    cdl_scan scan;             /* or NONE                                                          */
    uint32_t run_least;        /* or 0: "c+" and "c{2,}" match all of so many run_of, a byte of ASCII, or more */
    char run_of;
    cdl_regex *regex;          /* or NULL: text                                                    */
    const char *text;
    uint32_t n;
} cdl_pattern;

/* Cuts of p's text: matches and what lies between, in order, without gaps. */
CUDDLE_CHECK cuddle_status cdl_pattern_cut(const cdl_pattern *pattern, cdl_token_work *w, const cdl_piece *p);

/* ---- Normalizers ---- */

typedef enum {
    CDL_NORM_BERT, CDL_NORM_STRIP, CDL_NORM_STRIP_ACCENTS, CDL_NORM_NFC, CDL_NORM_NFD, CDL_NORM_NFKC, CDL_NORM_NFKD,
    CDL_NORM_LOWERCASE, CDL_NORM_NMT, CDL_NORM_PRECOMPILED, CDL_NORM_REPLACE, CDL_NORM_PREPEND, CDL_NORM_BYTE_LEVEL
} cdl_norm_type;

typedef struct {
    cdl_norm_type type;
    bool clean_text, chinese, strip_accents, lowercase;   /* BERT                       */
    bool left, right, blanks;                             /* STRIP; blanks: of ' ' only */
    cdl_pattern pattern;                                  /* REPLACE                    */
    const char *content;                                  /* REPLACE, PREPEND           */
    uint32_t n_content;
    const uint32_t *trie;                                 /* PRECOMPILED: double array  */
    uint32_t n_trie, n_normalized;
    const char *normalized;
    uint64_t plain[2];                                    /* ... which characters of ASCII stay as they are */
} cdl_norm;

/* continues: the piece goes on from another. */
CUDDLE_CHECK cuddle_status cdl_norm_run(const cdl_norm *step, cdl_token_work *w, cdl_piece *p, bool continues);
/* PRECOMPILED: fills plain, when the rest is there. */
void cdl_norm_find_plain(cdl_norm *step);
/* What BertNormalizer's clean_text makes of a character; -1: nothing. */
int32_t cdl_norm_bert_clean(uint32_t cp);
/* The ranges of Hugging Face's BertNormalizer. */
bool cdl_norm_is_chinese(uint32_t cp);

/* ---- Pre-tokenizers ---- */

typedef enum {
    CDL_SPLIT_BERT, CDL_SPLIT_BYTE_LEVEL, CDL_SPLIT_CHAR, CDL_SPLIT_METASPACE, CDL_SPLIT_WHITESPACE,
    CDL_SPLIT_WHITESPACE_ONLY, CDL_SPLIT_PATTERN, CDL_SPLIT_PUNCTUATION, CDL_SPLIT_DIGITS, CDL_SPLIT_SCRIPTS,
    CDL_SPLIT_FIXED
} cdl_split_type;

typedef enum { CDL_REMOVED, CDL_ISOLATED, CDL_MERGED_WITH_PREVIOUS, CDL_MERGED_WITH_NEXT, CDL_CONTIGUOUS } cdl_behavior;
typedef enum { CDL_PREPEND_ALWAYS, CDL_PREPEND_FIRST, CDL_PREPEND_NEVER } cdl_prepend;

typedef struct {
    cdl_split_type type;
    cdl_behavior behavior;      /* PATTERN, PUNCTUATION                                   */
    cdl_pattern pattern;        /* PATTERN; BYTE_LEVEL with use_regex                     */
    bool invert;
    bool use_regex;             /* BYTE_LEVEL                                             */
    bool add_prefix_space;      /* BYTE_LEVEL                                             */
    bool raw_bytes;             /* BYTE_LEVEL: the model knows bytes, leave them as they are */
    bool individual;            /* DIGITS                                                 */
    bool split;                 /* METASPACE                                              */
    cdl_prepend prepend;        /* METASPACE                                              */
    uint32_t cp;                /* METASPACE: the replacement; CHAR: the delimiter        */
    uint32_t length;            /* FIXED                                                  */
} cdl_split;

/* Runs on the whole list. */
CUDDLE_CHECK cuddle_status cdl_split_run(const cdl_split *step, cdl_token_work *w);

/* ---- Models ---- */

/* 12 bytes of text, zeros behind; high has the id << 32 and how many bytes << 56; 0: empty. */
typedef struct {
    uint64_t low, high;
} cdl_whole;

typedef enum { CDL_MODEL_BPE, CDL_MODEL_WORDPIECE, CDL_MODEL_WORDLEVEL, CDL_MODEL_UNIGRAM } cdl_token_model_type;

typedef struct {
    cdl_token_model_type type;
    cdl_vocab vocab;
    int32_t unk;                /* id, or -1                                                         */
    const char *unk_text;
    uint32_t n_unk_text;
    bool byte_fallback, fuse_unk, ignore_merges;
    float dropout;              /* BPE: the part of merges that is left out at random, 0 .. 1         */
    const char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix                    */
    uint32_t n_prefix, n_suffix;
    bool raw_bytes;             /* BPE: texts are bytes, not GPT-2's printable characters            */
    bool lacks_bytes;           /* ... and some byte has no token                                    */
    int32_t byte_id[256];       /* of one byte (raw_bytes), or of "<0x..>" (byte_fallback), or -1     */
    uint64_t *merge;            /* bpe_merges.h: open addressing, UINT64_MAX where empty             */
    uint32_t merges, n_merges;  /* slots, a power of two; merges so far                              */
    uint32_t merge_shift;
    uint32_t *joined;           /* [n_merges]: what they become                                      */
    size_t joined_cap;
    uint64_t *waiting;          /* [n_merges], or NULL: pairs that cdl_bpe_plan puts into the table  */
    int32_t *first_rank;        /* bpe_ids.c: [256 * 256], of two bytes, or [128 * 128], of ASCII    */
    int32_t *char_id;           /* ... [0x10000], of one character, where texts are no bytes         */
    bool windows;               /* ... long texts may be merged window by window                             */
    uint64_t *joins;            /* ... a set of places in tokens where a character begins, or NULL   */
    uint32_t cut_shift, whole_shift;
    cdl_whole *whole;           /* bpe_whole.h: words that are one token each, or NULL                */
    size_t whole_bytes;
    const uint64_t *join_rank;  /* [ids] instead of merges: any join that is a token, by rank        */
    uint32_t chars_max;         /* WORDPIECE: max_input_chars_per_word                               */
    cdl_trie trie;              /* WORDPIECE, UNIGRAM: of all texts; none when they are very long    */
    const double *score;        /* UNIGRAM: [ids]                                                    */
    int32_t *shorter;           /* UNIGRAM: [ids]: the longest token that this one ends with, or -1  */
    double score_min;
} cdl_token_model;

/* Fills w->token for the text of a piece. */
CUDDLE_CHECK cuddle_status cdl_bpe_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n);
CUDDLE_CHECK cuddle_status cdl_wordpiece_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n);
CUDDLE_CHECK cuddle_status cdl_wordlevel_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n);
CUDDLE_CHECK cuddle_status cdl_unigram_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n);
/* Unigram's ids and nothing else, in the work's memory. */
CUDDLE_CHECK cuddle_status cdl_unigram_ids(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n,
        const int32_t **ids, uint32_t *n_ids);
/* WordPiece's and Unigram's trie. */
CUDDLE_CHECK cuddle_status cdl_token_model_plan(cdl_token_model *m);
/* Their ids and nothing else; room for n. */
CUDDLE_CHECK cuddle_status cdl_bpe_ids(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n,
        int32_t *ids, uint32_t *n_ids);
/* The same for k words, each with its room for n ids. */
typedef struct {
    const char *s;
    uint32_t n, n_ids;
    int32_t *ids;
} cdl_bpe_word;
CUDDLE_CHECK cuddle_status cdl_bpe_words(const cdl_token_model *m, cdl_token_work *w, cdl_bpe_word *v, size_t k);
/* The merges' table, and others that cdl_bpe_ids needs, of a model that is complete otherwise. */
CUDDLE_CHECK cuddle_status cdl_bpe_plan(cdl_token_model *m);
/* What cdl_bpe_cut needs; it may run beside cdl_bpe_plan. */
CUDDLE_CHECK cuddle_status cdl_bpe_plan_joins(cdl_token_model *m);
/* bpe_whole.c: the table of words that are one token each. */
CUDDLE_CHECK cuddle_status cdl_bpe_plan_whole(cdl_token_model *m);
/* The bytes that token i stands for, how many; room for its text. */
size_t cdl_bpe_bytes(const cdl_token_model *m, uint32_t i, char *room, const char **out);
/* Where a text may be cut behind byte at, since no token reaches across, or n; the model has joins. */
size_t cdl_bpe_cut(const cdl_token_model *m, const char *s, size_t n, size_t at);
/* Room for about n merges, so that adding them is cheap. */
CUDDLE_CHECK cuddle_status cdl_bpe_reserve_merges(cdl_token_model *m, size_t n);
/* Adds the next merge: of tokens a and b into id. */
CUDDLE_CHECK cuddle_status cdl_bpe_add_merge(cdl_token_model *m, uint32_t a, uint32_t b, uint32_t id);
/* All n merges, by cdl_merge_pair of what they join, and what they become; takes both from the heap. They
 * can be found once cdl_bpe_plan was called. */
CUDDLE_CHECK cuddle_status cdl_bpe_take_merges(cdl_token_model *m, uint64_t *pair, uint32_t *id, size_t n);
void cdl_token_model_free(cdl_token_model *m);
/* The one of the model's type. */
CUDDLE_CHECK cuddle_status cdl_token_model_run(const cdl_token_model *m, cdl_token_work *w, const char *s, uint32_t n);

/* ---- Added tokens ---- */

typedef struct {
    int32_t id;
    const char *content;
    uint32_t n;
    bool single_word, lstrip, rstrip, normalized, special;
} cdl_added;

/* A trie over the bytes of the tokens to look for: leftmost-longest matches. */
typedef struct {
    uint32_t child, sibling;   /* nodes; 0: none                    */
    uint32_t token;            /* 1 + index of the token that ends here */
    uint8_t byte;
} cdl_added_node;

typedef struct {
    cdl_added_node *v;         /* v[0] is the root                  */
    size_t n, cap;
    uint32_t first[256];       /* node of a token's first byte, or 0 */
    uint32_t n_first;          /* how many first bytes there are     */
    uint8_t only;              /* the one, if there is one           */
} cdl_added_trie;

typedef struct {
    cdl_added *v;              /* [n], in the file's order                                         */
    uint32_t n;
    cdl_vocab vocab;           /* content to id                                                    */
    cdl_vocab shown;           /* id to its text, normalized where the token is                    */
    uint8_t *special;          /* [vocab.ids]                                                      */
    cdl_added_trie raw, normalized;
    bool encode_special;       /* special ones are not looked for                                  */
} cdl_added_tokens;

/* Puts a token's text, as it is looked for, into a trie; index: into v. The first of equal texts wins. */
CUDDLE_CHECK cuddle_status cdl_added_insert(cdl_added_trie *t, const char *s, size_t n, uint32_t index);
/* Cuts the pieces that are still text where tokens of the trie stand. */
CUDDLE_CHECK cuddle_status cdl_added_split(const cdl_added_tokens *a, const cdl_added_trie *t, cdl_token_work *w);
void cdl_added_free(cdl_added_tokens *a);

/* ---- Post-processors ---- */

typedef enum { CDL_POST_TEMPLATE, CDL_POST_BYTE_LEVEL, CDL_POST_ROBERTA, CDL_POST_BERT } cdl_post_type;

typedef struct {
    int32_t sequence;          /* 0: the text, 1: the pair, -1: ids */
    const int32_t *ids;        /* [n] of a special token            */
    const char *const *texts;
    uint32_t n;
    uint8_t type;
} cdl_template_item;

typedef struct {
    cdl_post_type type;
    cdl_template_item *single, *pair;              /* TEMPLATE      */
    uint32_t n_single, n_pair;
    bool trim_offsets, add_prefix_space;           /* BYTE_LEVEL, ROBERTA */
    int32_t cls, sep;                              /* ROBERTA, BERT */
    const char *cls_text, *sep_text;
} cdl_post;

typedef enum { CDL_LONGEST_FIRST, CDL_ONLY_FIRST, CDL_ONLY_SECOND } cdl_truncation;

/* ---- Decoders ---- */

typedef enum {
    CDL_DECODE_BPE, CDL_DECODE_BYTE_LEVEL, CDL_DECODE_WORDPIECE, CDL_DECODE_METASPACE, CDL_DECODE_CTC,
    CDL_DECODE_REPLACE, CDL_DECODE_FUSE, CDL_DECODE_STRIP, CDL_DECODE_BYTE_FALLBACK
} cdl_decode_type;

typedef struct {
    cdl_decode_type type;
    const char *text;          /* suffix, prefix, content, pad_token   */
    uint32_t n;
    const char *delimiter;     /* CTC                                  */
    uint32_t n_delimiter;
    cdl_pattern pattern;       /* REPLACE                              */
    bool cleanup;
    bool prepend;              /* METASPACE: a prefix space is removed */
    uint32_t cp;               /* METASPACE, STRIP                     */
    uint32_t start, stop;      /* STRIP                                */
} cdl_decode;

/* ---- The whole ---- */

/* A Metaspace that writes its mark in front of the text's first piece asks whether a piece comes from byte 0. Without
 * origins that is the one at byte 0 of its text, which is wrong where a normalizer drops what the text begins with. */
typedef enum { CDL_ORIGINS_NEVER, CDL_ORIGINS_UNLESS_ALNUM, CDL_ORIGINS_ALWAYS } cdl_origins;

struct cuddle_tokenizer {
    cdl_arena arena;           /* every text below */
    cdl_added_tokens added;
    cdl_norm *norm;
    cdl_split *split;
    cdl_post *post;
    cdl_decode *decode;
    uint32_t n_norm, n_split, n_post, n_decode;
    uint64_t serial;           /* no other tokenizer of the process has it */
    cdl_scan scan;             /* words.c: cuts what the first n_listed pre-tokenizers leave */
    uint32_t n_listed;
    uint32_t *bert;            /* words_bert.c: what characters become, or NULL */
    uint8_t *bert_ascii;       /* ... those of ASCII, in vectors, or NULL       */
    bool marks;                /* words.c: cuts in front of U+2581 ...     */
    uint8_t joins[256];        /* ... except behind these bytes            */
    uint8_t origins;           /* cdl_origins: ids alone need to know where pieces come from */
    bool decodes;              /* a decoder is given: without one tokens are joined by spaces */
    cdl_token_model model;
    struct {
        bool on, left;
        cdl_truncation strategy;
        uint32_t max, stride;
    } truncation;
    struct {
        bool on, left, longest;   /* longest: of the batch, else fixed */
        uint32_t fixed, multiple;
        int32_t id;
        uint8_t type;
        const char *text;
    } padding;
};

/* The tokens of one text or of the whole, as arrays. */
struct cuddle_encoding {
    cdl_token_work work;
    size_t n, cap;
    int32_t *ids, *words;
    uint32_t *offsets;         /* [n, 2] */
    uint8_t *types, *special, *attention;
    uint32_t *value;           /* [n]: 1 + the offset into values, 0: the vocabulary's text */
    uint8_t *sequence;         /* [n]: 0 the text, 1 the pair, 2 neither */
    cdl_buf values;            /* a length and a text each */
    bool full;                 /* all of the above, not only ids */
    bool bytes;                /* offsets count bytes            */
    cuddle_encoding *pair;     /* scratch for the second text and for framing */
    cuddle_encoding *frame;
    cuddle_encoding **over;
    size_t n_over, cap_over;
};

/* Truncation, post-processing, padding of a text's and its pair's (or NULL) tokens, into e. */
CUDDLE_CHECK cuddle_status cdl_post_run(const cuddle_tokenizer *t, cuddle_encoding *e, cuddle_encoding *pair,
        const cuddle_encode_opts *o);

/* encoding.c */
CUDDLE_CHECK cuddle_status cdl_encoding_reserve(cuddle_encoding *e, size_t n);
/* Appends tokens [begin, end) of another. */
CUDDLE_CHECK cuddle_status cdl_encoding_append(cuddle_encoding *e, const cuddle_encoding *from, size_t begin,
        size_t end);
/* One token that stands for no text; text NULL: the vocabulary's. */
CUDDLE_CHECK cuddle_status cdl_encoding_add(cuddle_encoding *e, int32_t id, const char *text, uint8_t type,
        bool attention);
/* The i-th token's text, where it is not the vocabulary's. */
CUDDLE_CHECK cuddle_status cdl_encoding_value(cuddle_encoding *e, size_t i, const char *s, size_t n);
void cdl_encoding_clear(cuddle_encoding *e);

#endif
