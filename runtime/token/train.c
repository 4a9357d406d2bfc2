/* train.c - a trainer: options, texts in, a tokenizer.json out. */
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/outfile.h"
#include "base/pool.h"
#include "base/utf8.h"
#include "token/load.h"
#include "token/train.h"
#include "token/unicode.h"

enum { VOCAB_DEFAULT = 30000, UNIGRAM_DEFAULT = 8000, SEEDS_DEFAULT = 1000000, PIECE_CHARS_DEFAULT = 16,
    PIECE_CHARS_MAX = 1 << 12, BLOCK_BYTES = 1 << 22, BLOCK_LEAST = 1 << 18 };

/* What counts the words of texts, by one thread. */
typedef struct {
    cdl_token_work work;
    cdl_counted_words words;
    const char *s;             /* lines */
    size_t n;
    cuddle_status status;
} counter;

struct cuddle_trainer {
    cuddle_train_opts o;       /* texts in the arena, defaults filled in */
    cdl_arena arena;
    cuddle_tokenizer *cutter;  /* its normalizer and pre-tokenizer       */
    counter all;
    bool raw_bytes;
    bool unk_leads;            /* the unknown token is not among the special tokens given */
    bool scanned;              /* the pre-tokenizer is one scan          */
    cdl_buf json;
};

/* ---- Options ---- */

typedef struct {
    const char *normalizer, *pre_tokenizer, *decoder;
} cut_parts;

#define BERT(lower) "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true," \
    "\"strip_accents\":null,\"lowercase\":" lower "}"
#define METASPACE "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"always\"," \
    "\"split\":true}"
#define BYTE_LEVEL(prefix) "{\"type\":\"ByteLevel\",\"add_prefix_space\":" prefix ",\"trim_offsets\":true," \
    "\"use_regex\":true}"
#define BERT_SPLIT "{\"type\":\"BertPreTokenizer\"}"

static const cut_parts presets[] = {
    [CUDDLE_TRAIN_CUT_BYTE_LEVEL] = { "null", BYTE_LEVEL("false"), BYTE_LEVEL("true") },
    [CUDDLE_TRAIN_CUT_METASPACE] = { "null", METASPACE, METASPACE },
    [CUDDLE_TRAIN_CUT_BERT] = { BERT("false"), BERT_SPLIT, "null" },
    [CUDDLE_TRAIN_CUT_BERT_LOWER] = { BERT("true"), BERT_SPLIT, "null" },
    [CUDDLE_TRAIN_CUT_WHITESPACE] = { "null", "{\"type\":\"Whitespace\"}", "null" },
};

enum { N_PRESETS = sizeof presets / sizeof *presets };

static cuddle_status keep(cuddle_trainer *t, const char **s, const char *fallback)
{
    const char *from = *s ? *s : fallback;
    if (cdl_utf8_valid(from, strlen(from)) < strlen(from))
        return cdl_status_fail(CUDDLE_ERR_ARG, "an option of the trainer is not UTF-8: %.*s",
                CDL_STR(from, strlen(from)));
    *s = cdl_arena_strdup(&t->arena, from);
    return *s ? CUDDLE_OK : cdl_status_nomem("the trainer");
}

/* The special tokens, led by the unknown one unless it is among them. */
static cuddle_status keep_specials(cuddle_trainer *t)
{
    cuddle_train_opts *o = &t->o;
    const char **v = cdl_arena_zalloc(&t->arena, o->n_special + 1, sizeof *v);
    if (!v)
        return cdl_status_nomem("the trainer");
    bool lead = *o->unk_token && !o->unk_apart;
    for (size_t i = 0; i < o->n_special; i++)
        lead = lead && strcmp(o->special_tokens[i], o->unk_token) != 0;
    for (size_t i = 0; i < o->n_special; i++) {
        v[i + lead] = o->special_tokens[i];
        if (!*v[i + lead])
            return cdl_status_fail(CUDDLE_ERR_ARG, "special token %zu is empty", i);
        CDL_TRY(keep(t, &v[i + lead], ""));
    }
    t->unk_leads = lead;
    if (lead)
        v[0] = o->unk_token;
    o->special_tokens = v;
    o->n_special += lead;
    return CUDDLE_OK;
}

typedef struct {
    cuddle_train_cut cut;
    uint32_t vocab_size;
    const char *decoder, *prefix, *unk; /* NULL: by the cut */
} model_defaults;

static const model_defaults defaults[] = {
    [CUDDLE_TRAIN_BPE] = { CUDDLE_TRAIN_CUT_BYTE_LEVEL, VOCAB_DEFAULT, NULL, "", NULL },
    [CUDDLE_TRAIN_WORDPIECE] = { CUDDLE_TRAIN_CUT_BERT, VOCAB_DEFAULT,
                                 "{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}", "##", "[UNK]" },
    [CUDDLE_TRAIN_UNIGRAM] = { CUDDLE_TRAIN_CUT_METASPACE, UNIGRAM_DEFAULT, NULL, "", NULL },
    [CUDDLE_TRAIN_WORDLEVEL] = { CUDDLE_TRAIN_CUT_WHITESPACE, VOCAB_DEFAULT, NULL, "", "<unk>" },
};

static cuddle_status fill_unigram(cuddle_train_opts *o)
{
    o->shrinking_factor = o->shrinking_factor ? o->shrinking_factor : 0.75;
    o->em_steps = o->em_steps ? o->em_steps : 2;
    o->piece_chars_max = o->piece_chars_max ? o->piece_chars_max : PIECE_CHARS_DEFAULT;
    o->seed_size = o->seed_size ? o->seed_size : SEEDS_DEFAULT;
    if (!(o->shrinking_factor > 0 && o->shrinking_factor < 1))
        return cdl_status_fail(CUDDLE_ERR_ARG, "a shrinking factor of %g is not between 0 and 1", o->shrinking_factor);
    if (o->piece_chars_max > PIECE_CHARS_MAX)
        return cdl_status_fail(CUDDLE_ERR_ARG, "pieces of %u characters are over %d", o->piece_chars_max,
                PIECE_CHARS_MAX);
    return CUDDLE_OK;
}

static cuddle_status fill_options(cuddle_trainer *t)
{
    cuddle_train_opts *o = &t->o;
    if ((unsigned)o->model > CUDDLE_TRAIN_WORDLEVEL || (unsigned)o->cut >= N_PRESETS)
        return cdl_status_fail(CUDDLE_ERR_ARG, "the trainer knows no model %d with cut %d", o->model, o->cut);
    if (o->vocab_size > CDL_VOCAB_ID_MAX)
        return cdl_status_fail(CUDDLE_ERR_ARG, "a vocabulary of %u is over %d", o->vocab_size, CDL_VOCAB_ID_MAX);
    const model_defaults *d = &defaults[o->model];
    o->cut = o->cut ? o->cut : d->cut;
    o->vocab_size = o->vocab_size ? o->vocab_size : d->vocab_size;
    CDL_TRY(fill_unigram(o));
    const cut_parts *p = &presets[o->cut];
    const char *unk = d->unk ? d->unk : o->cut == CUDDLE_TRAIN_CUT_BYTE_LEVEL ? "" : "<unk>";
    CDL_TRY(keep(t, &o->normalizer, p->normalizer));
    CDL_TRY(keep(t, &o->pre_tokenizer, p->pre_tokenizer));
    CDL_TRY(keep(t, &o->decoder, d->decoder ? d->decoder : p->decoder));
    CDL_TRY(keep(t, &o->continuing_prefix, d->prefix));
    CDL_TRY(keep(t, &o->end_suffix, ""));
    CDL_TRY(keep(t, &o->initial_alphabet, ""));
    CDL_TRY(keep(t, &o->unk_token, unk));
    return keep_specials(t);
}

typedef cuddle_status load_part(cuddle_tokenizer *t, const cdl_json *v, const char *name);

static cuddle_status load(cuddle_trainer *t, load_part *part, const char *text, const char *name)
{
    const cdl_json *v;
    CDL_TRY(cdl_json_parse(&v, &t->arena, text, strlen(text), name));
    return part(t->cutter, v, name);
}

static cuddle_status make_cutter(cuddle_trainer *t)
{
    CDL_TRY(cdl_tokenizer_new(&t->cutter));
    CDL_TRY(load(t, cdl_load_normalizer, t->o.normalizer, "the normalizer"));
    CDL_TRY(load(t, cdl_load_pre_tokenizer, t->o.pre_tokenizer, "the pre_tokenizer"));
    CDL_TRY(load(t, cdl_load_decoder, t->o.decoder, "the decoder"));
    uint32_t n = t->cutter->n_split;
    cdl_split *last = n ? &t->cutter->split[n - 1] : NULL;
    t->raw_bytes = last && last->type == CDL_SPLIT_BYTE_LEVEL;
    for (uint32_t i = 0; i + 1 < n; i++)
        t->raw_bytes = t->raw_bytes && t->cutter->split[i].type != CDL_SPLIT_BYTE_LEVEL;
    if (!t->raw_bytes)
        return CUDDLE_OK;
    last->raw_bytes = true;
    t->scanned = n == 1 && !t->cutter->n_norm && last->use_regex && !last->add_prefix_space && last->pattern.scan;
    return CUDDLE_OK;
}

cuddle_status cuddle_trainer_new(cuddle_trainer **out, const cuddle_train_opts *opts)
{
    *out = NULL;
    cuddle_trainer *t = cdl_mem_zalloc(1, sizeof *t);
    if (!t)
        return cdl_status_nomem("the trainer");
    if (opts)
        memcpy(&t->o, opts, opts->size < sizeof t->o ? opts->size : sizeof t->o);
    cuddle_status st = fill_options(t);
    if (st == CUDDLE_OK)
        st = make_cutter(t);
    if (st != CUDDLE_OK)
        cuddle_trainer_free(t);
    else
        *out = t;
    return st;
}

static void free_counter(counter *c)
{
    cdl_work_free(&c->work);
    cdl_counted_free(&c->words);
}

void cuddle_trainer_free(cuddle_trainer *t)
{
    if (!t)
        return;
    cuddle_tokenizer_close(t->cutter);
    free_counter(&t->all);
    cdl_buf_free(&t->json);
    cdl_arena_free(&t->arena);
    cdl_mem_free(t);
}

/* ---- Texts ---- */

static cuddle_status count_scanned(const cuddle_trainer *t, counter *c, const char *s, size_t n)
{
    cdl_scan scan = t->cutter->split[0].pattern.scan;
    uint32_t end[CDL_SCAN_ENDS];
    CDL_TRY(cdl_scan_read(&c->work.map, s, n));
    for (size_t at = 0; at < n; ) {
        size_t k = cdl_scan_ends(&c->work.map, scan, at, end, CDL_SCAN_ENDS);
        for (size_t i = 0; i < k; at = end[i++])
            CDL_TRY(cdl_counted_add(&c->words, s + at, (uint32_t)(end[i] - at)));
    }
    return CUDDLE_OK;
}

static cuddle_status count_text(const cuddle_trainer *t, counter *c, const char *s, size_t n)
{
    if (n > INT32_MAX)
        return cdl_status_fail(CUDDLE_ERR_ARG, "a text of %zu bytes is over 2 GiB; cut it into lines", n);
    if (t->scanned)
        return count_scanned(t, c, s, n);
    cdl_token_work *w = &c->work;
    cdl_arena_reset(&w->arena);
    w->n_next = 0;
    cdl_piece whole = { s, NULL, (uint32_t)n, 0, -1 };
    CDL_TRY(cdl_work_slice(w, &whole, 0, (uint32_t)n, -1));
    cdl_work_turn(w);
    for (uint32_t k = 0; w->n && k < t->cutter->n_norm; k++)
        CDL_TRY(cdl_norm_run(&t->cutter->norm[k], w, &w->piece[0], false));
    if (w->n && !w->piece[0].n)
        return CUDDLE_OK;
    for (uint32_t k = 0; k < t->cutter->n_split; k++)
        CDL_TRY(cdl_split_run(&t->cutter->split[k], w));
    for (size_t i = 0; i < w->n; i++)
        CDL_TRY(cdl_counted_add(&c->words, w->piece[i].s, w->piece[i].n));
    return CUDDLE_OK;
}

cuddle_status cuddle_trainer_feed(cuddle_trainer *t, const char *text, size_t n)
{
    size_t bad = cdl_utf8_valid(text, n);
    if (bad < n)
        return cdl_status_fail(CUDDLE_ERR_ARG, "the text is not UTF-8: byte 0x%02x at offset %zu",
                (uint8_t)text[bad], bad);
    return count_text(t, &t->all, text, n);
}

static cuddle_status report(const cuddle_train_opts *o, const char *what, uint64_t done, uint64_t total)
{
    if (o->progress && !o->progress(o->user, what, done, total))
        return cdl_status_fail(CUDDLE_ERR_CANCELLED, "the training was cancelled");
    return CUDDLE_OK;
}

static size_t line_end(const char *s, size_t n, size_t at)
{
    const char *line = memchr(s + at, '\n', n - at);
    return line ? (size_t)(line - s) + 1 : n;
}

static cuddle_status count_lines(const cuddle_trainer *t, counter *c)
{
    cuddle_status st = CUDDLE_OK;
    for (size_t at = 0, end; at < c->n && st == CUDDLE_OK; at = end) {
        end = line_end(c->s, c->n, at);
        st = count_text(t, c, c->s + at, end - at);
    }
    return st;
}

typedef struct {
    const cuddle_trainer *t;
    counter *c;                /* [n] */
    uint32_t n;
    size_t block;              /* bytes of lines for each at a time, about */
    cdl_pool *pool;
} counting;

static void count_block(const void *arg, uint32_t chunk, void *scratch)
{
    const counting *k = arg;
    (void)scratch;
    k->c[chunk].status = count_lines(k->t, &k->c[chunk]);
}

/* A block of lines for each thread, from at on; their words come together in the order of the blocks. */
static cuddle_status count_blocks(cuddle_trainer *t, counting *k, const char *s, size_t n, size_t *at)
{
    uint32_t blocks = 0;
    for (; blocks < k->n && *at < n; blocks++) {
        size_t end = n - *at > k->block ? line_end(s, n, *at + k->block) : n;
        cdl_counted_clear(&k->c[blocks].words);
        k->c[blocks].s = s + *at;
        k->c[blocks].n = end - *at;
        *at = end;
    }
    cdl_pool_run(k->pool, &(cdl_phase){ .run = count_block, .arg = k, .chunks = blocks }, 1);
    cdl_pool_quiesce(k->pool, 0);
    for (uint32_t i = 0; i < blocks; i++) {
        if (k->c[i].status != CUDDLE_OK) { /* once more here, for its message */
            CDL_TRY(count_lines(t, &k->c[i]));
            return cdl_status_nomem("the words of the texts");
        }
        CDL_TRY(cdl_counted_merge(&t->all.words, &k->c[i].words));
    }
    return CUDDLE_OK;
}

static cuddle_status count_parallel(cuddle_trainer *t, counting *k, const char *s, size_t n)
{
    k->c = cdl_mem_zalloc(k->n, sizeof *k->c);
    if (!k->c)
        return cdl_status_nomem("the threads of the trainer");
    CDL_TRY(cdl_pool_new(&k->pool, k->n, 0));
    for (size_t at = 0; at < n; ) {
        CDL_TRY(count_blocks(t, k, s, n, &at));
        CDL_TRY(report(&t->o, "counting words", at, n));
    }
    return CUDDLE_OK;
}

static cuddle_status feed_lines(cuddle_trainer *t, const char *s, size_t n)
{
    size_t most = n / BLOCK_LEAST + 1;
    counting k = { .t = t, .n = t->o.threads ? t->o.threads : cdl_pool_default_threads() };
    k.n = k.n < CDL_POOL_THREADS_MAX ? k.n : CDL_POOL_THREADS_MAX;
    k.n = k.n < most ? k.n : (uint32_t)most;
    k.block = n / k.n / (n / k.n / BLOCK_BYTES + 1) + 1;
    cuddle_status st = CUDDLE_OK;
    if (k.n > 1) {
        st = count_parallel(t, &k, s, n);
    } else {
        t->all.s = s;
        t->all.n = n;
        st = count_lines(t, &t->all);
    }
    cdl_pool_free(k.pool);
    for (uint32_t i = 0; k.c && i < k.n; i++)
        free_counter(&k.c[i]);
    cdl_mem_free(k.c);
    return st;
}

cuddle_status cuddle_trainer_feed_file(cuddle_trainer *t, const char *path)
{
    cdl_map m;
    CDL_TRY(cdl_map_open(&m, path));
    const char *s = (const char *)m.data;
    size_t bad = cdl_utf8_valid(s, m.size);
    cuddle_status st = bad < m.size ? cdl_status_fail(CUDDLE_ERR_ARG, "%s is not UTF-8: byte 0x%02x at offset %zu; "
            "convert it first", path, m.data[bad], bad) : feed_lines(t, s, m.size);
    cdl_map_close(&m);
    return st;
}

/* ---- Learning ---- */

size_t cdl_learning_char(const cdl_learning *l, const char *s, size_t n, uint32_t *cp)
{
    if (!l->raw_bytes)
        return cdl_utf8_get(s, n, cp);
    *cp = cdl_unicode_from_byte((uint8_t)*s);
    return 1;
}

cuddle_status cdl_learning_progress(const cdl_learning *l, const char *what, uint64_t done, uint64_t total)
{
    return report(&l->o, what, done, total);
}

void cdl_learning_free(cdl_learning *l)
{
    cdl_vocab_free(&l->vocab);
    cdl_mem_free(l->merge);
    cdl_mem_free(l->score);
}

static cuddle_status add_specials(cdl_learning *l)
{
    for (size_t i = 0; i < l->o.n_special; i++) {
        const char *s = l->o.special_tokens[i];
        if (cdl_vocab_find(&l->vocab, s, strlen(s)) < 0)
            CDL_TRY(cdl_vocab_add(&l->vocab, s, strlen(s), l->vocab.ids));
    }
    return CUDDLE_OK;
}

/* The unknown token of Unigram is a piece, unless it is given as a special token. */
static cuddle_status write_added(cuddle_trainer *t, uint32_t n, const cdl_learning *l)
{
    uint32_t first = t->unk_leads && l->o.model == CUDDLE_TRAIN_UNIGRAM;
    CDL_TRY(cdl_buf_puts(&t->json, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":["));
    for (uint32_t id = first; id < n; id++) {
        size_t len = 0;
        const char *s = cdl_vocab_text(&l->vocab, id, &len);
        CDL_TRY(cdl_buf_printf(&t->json, "%s\n{\"id\":%u,\"content\":", id > first ? "," : "", id));
        CDL_TRY(cdl_json_put_string(&t->json, s, len));
        CDL_TRY(cdl_buf_puts(&t->json, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
                "\"special\":true}"));
    }
    return cdl_buf_printf(&t->json, "],\n\"normalizer\":%s,\n\"pre_tokenizer\":%s,\n\"post_processor\":null,\n"
            "\"decoder\":%s,\n\"model\":", t->o.normalizer, t->o.pre_tokenizer, t->o.decoder);
}

static cuddle_status learn(cuddle_trainer *t, cdl_learning *l)
{
    CDL_TRY(add_specials(l));
    uint32_t n_special = l->vocab.ids;
    CDL_TRY(l->o.model == CUDDLE_TRAIN_UNIGRAM ? cdl_learn_unigram(l)
            : l->o.model == CUDDLE_TRAIN_WORDLEVEL ? cdl_learn_words(l) : cdl_learn_merges(l));
    cdl_buf_clear(&t->json);
    CDL_TRY(write_added(t, n_special, l));
    CDL_TRY(cdl_learned_write(l, &t->json));
    return cdl_buf_puts(&t->json, "}\n");
}

cuddle_status cuddle_trainer_train(cuddle_trainer *t, const char **json, size_t *n)
{
    *json = NULL;
    *n = 0;
    if (!t->all.words.n)
        return cdl_status_fail(CUDDLE_ERR_ARG, "there is nothing to learn from: the texts hold no word");
    cdl_learning l = { .o = t->o, .words = &t->all.words, .raw_bytes = t->raw_bytes };
    cuddle_status st = learn(t, &l);
    cdl_learning_free(&l);
    if (st != CUDDLE_OK)
        return st;
    *json = t->json.data;
    *n = t->json.len;
    return CUDDLE_OK;
}

cuddle_status cuddle_trainer_save(cuddle_trainer *t, const char *path)
{
    const char *json;
    size_t n;
    cdl_outfile file;
    CDL_TRY(cuddle_trainer_train(t, &json, &n));
    CDL_TRY(cdl_outfile_create(&file, path, n));
    memcpy(file.data, json, n);
    return cdl_outfile_finish(&file);
}
