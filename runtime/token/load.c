/* load.c - tokenizer.json in one pass: the vocabulary may be 30 MB of it. */
#include "token/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/utf8.h"
#include "token/import.h"
#include "token/unicode.h"
#include "token/words.h"

cuddle_status cdl_tokenizer_new(cuddle_tokenizer **out)
{
    static _Atomic uint64_t serial;
    cdl_unicode_init();
    *out = cdl_mem_zalloc(1, sizeof **out);
    if (!*out)
        return cdl_status_nomem("the tokenizer");
    (*out)->serial = ++serial;
    (*out)->model.unk = -1;
    (*out)->model.prefix = (*out)->model.suffix = (*out)->model.unk_text = "";
    return CUDDLE_OK;
}

void cuddle_tokenizer_close(cuddle_tokenizer *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; i < t->n_norm; i++)
        cdl_regex_free(t->norm[i].pattern.regex);
    for (uint32_t i = 0; i < t->n_split; i++)
        cdl_regex_free(t->split[i].pattern.regex);
    for (uint32_t i = 0; i < t->n_decode; i++)
        cdl_regex_free(t->decode[i].pattern.regex);
    cdl_added_free(&t->added);
    cdl_token_model_free(&t->model);
    cdl_arena_free(&t->arena);
    cdl_mem_free(t);
}

/* ---- Added tokens ---- */

cuddle_status cdl_tokenizer_add(cuddle_tokenizer *t, const cdl_added *token)
{
    cdl_added_tokens *a = &t->added;
    if ((a->n & (a->n - 1)) == 0) {
        cdl_added *v = cdl_arena_zalloc(&t->arena, a->n ? 2 * a->n : 1, sizeof *v);
        if (!v)
            return cdl_status_nomem("the added tokens");
        if (a->n)
            memcpy(v, a->v, a->n * sizeof *v);
        a->v = v;
    }
    cdl_added *mine = &a->v[a->n];
    *mine = *token;
    mine->content = cdl_arena_strndup(&t->arena, token->content, token->n);
    if (!mine->content)
        return cdl_status_nomem("the added tokens");
    a->n++;
    return CUDDLE_OK;
}

/* Ids as Hugging Face gives them when it reads a file, whatever the file says: that of the model's
 * vocabulary, or the next one behind it. */
static cuddle_status number_added(cuddle_tokenizer *t)
{
    cdl_added_tokens *a = &t->added;
    const cdl_vocab *model = &t->model.vocab;
    int64_t next = model->used;
    for (uint32_t i = 0; i < a->n; i++) {
        cdl_added *k = &a->v[i];
        k->id = cdl_vocab_find(&a->vocab, k->content, k->n);
        if (k->id >= 0)
            continue;
        int32_t id = cdl_vocab_find(model, k->content, k->n);
        CDL_TRY(cdl_vocab_add(&a->vocab, k->content, k->n, id >= 0 ? id : next));
        k->id = id >= 0 ? id : (int32_t)next;
        next = k->id >= next ? k->id + 1 : next;
    }
    return CUDDLE_OK;
}

/* What the i-th token is looked for by and decoded to: its normalized text if it is one to be found
 * in normalized text. index: the token to stand for it. */
static cuddle_status insert_added(cuddle_tokenizer *t, cdl_token_work *w, uint32_t i, uint32_t index)
{
    const cdl_added *k = &t->added.v[i];
    cdl_piece p = { .s = k->content, .n = k->n, .id = -1 };
    cdl_work_begin(w, k->n, t->n_norm);
    for (uint32_t s = 0; k->normalized && s < t->n_norm; s++)
        CDL_TRY(cdl_norm_run(&t->norm[s], w, &p, false));
    if (i == index)
        CDL_TRY(cdl_vocab_add(&t->added.shown, p.s, p.n, k->id));
    return cdl_added_insert(k->normalized ? &t->added.normalized : &t->added.raw, p.s, p.n, index);
}

/* last: [ids], room for the index of the last token with an id, whose options count. */
static cuddle_status insert_all_added(cuddle_tokenizer *t, cdl_token_work *w, uint32_t *last)
{
    cdl_added_tokens *a = &t->added;
    for (uint32_t i = 0; i < a->n; i++) {
        last[a->v[i].id] = i;
        a->special[a->v[i].id] |= a->v[i].special;
    }
    for (int special = 1; special >= 0; special--) /* of equal texts special tokens come first */
        for (uint32_t i = 0; i < a->n; i++)
            if (a->special[a->v[i].id] == special)
                CDL_TRY(insert_added(t, w, i, last[a->v[i].id]));
    return CUDDLE_OK;
}

/* Hugging Face asks whether the decoded text is that of a special token. */
static void find_special(cdl_added_tokens *a, uint8_t *by_content)
{
    memcpy(by_content, a->special, a->vocab.ids);
    for (uint32_t i = 0; i < a->n; i++) {
        size_t n = 0;
        const char *s = cdl_vocab_text(&a->shown, a->v[i].id, &n);
        int32_t id = s ? cdl_vocab_find(&a->vocab, s, n) : -1;
        a->special[a->v[i].id] = id >= 0 && by_content[id];
    }
}

/* Everything about added tokens that follows from their list. */
static void forget_added(cdl_added_tokens *a)
{
    cdl_added *v = a->v;
    uint32_t n = a->n;
    bool encode_special = a->encode_special;
    cdl_added_free(a);
    *a = (cdl_added_tokens){ .v = v, .n = n, .encode_special = encode_special };
}

cuddle_status cdl_tokenizer_number_added(cuddle_tokenizer *t)
{
    cdl_added_tokens *a = &t->added;
    cdl_token_work w = { 0 };
    forget_added(a);
    CDL_TRY(number_added(t));
    a->special = cdl_mem_zalloc(a->vocab.ids + (size_t)1, 1);
    uint32_t *last = cdl_mem_array(a->vocab.ids + (size_t)1, sizeof *last);
    cuddle_status st = a->special && last ? insert_all_added(t, &w, last) : cdl_status_nomem("the added tokens");
    if (st == CUDDLE_OK)
        find_special(a, (uint8_t *)last);
    cdl_work_free(&w);
    cdl_mem_free(last);
    return st;
}

/* ---- What the model needs besides its vocabulary ---- */

static bool may_stay_bytes(const cuddle_tokenizer *t)
{
    const cdl_token_model *m = &t->model;
    if (m->type != CDL_MODEL_BPE || m->n_prefix || m->n_suffix || m->byte_fallback || !t->n_split)
        return false;
    for (uint32_t i = 0; i < t->n_split; i++)
        if ((t->split[i].type == CDL_SPLIT_BYTE_LEVEL) != (i + 1 == t->n_split))
            return false;
    return true;
}

static void find_byte_ids(cdl_token_model *m)
{
    for (int b = 0; b < 256; b++) {
        char text[8];
        size_t n = m->raw_bytes ? cdl_utf8_put(text, cdl_unicode_from_byte((uint8_t)b))
                                : (size_t)snprintf(text, sizeof text, "<0x%02X>", b);
        m->byte_id[b] = cdl_vocab_find(&m->vocab, text, n);
    }
}

static void plan_origins(cuddle_tokenizer *t)
{
    bool first = false, local = t->n_split && t->split[0].type == CDL_SPLIT_METASPACE;
    bool before = t->n_norm || !local;
    for (uint32_t i = 0; i < t->n_split; i++) {
        bool asks = t->split[i].type == CDL_SPLIT_METASPACE && t->split[i].prepend == CDL_PREPEND_FIRST;
        first |= asks;
        local &= !asks || i == 0;
        before |= asks && i > 0;
    }
    for (uint32_t i = 0; i < t->n_norm; i++) /* the others leave a letter that the text begins with */
        local &= t->norm[i].type != CDL_NORM_REPLACE && t->norm[i].type != CDL_NORM_PREPEND;
    t->origins = !first || !before ? CDL_ORIGINS_NEVER : local ? CDL_ORIGINS_UNLESS_ALNUM : CDL_ORIGINS_ALWAYS;
}

/* What merges tokens, what cuts texts, and what finds added tokens: none asks for the others. */
static cuddle_status plan_part(cuddle_tokenizer *t, uint32_t part)
{
    cdl_token_model *m = &t->model;
    switch (part) {
    case 0:
        CDL_TRY(cdl_bpe_plan(m));
        CDL_TRY(cdl_bpe_plan_whole(m));
        return cdl_token_model_plan(m);
    case 1:
        CDL_TRY(cdl_bpe_plan_joins(m));
        return cdl_words_plan(t);
    default:
        return cdl_tokenizer_number_added(t);
    }
}

enum { PLAN_PARTS = 3, LARGE = 1 << 16 }; /* LARGE: ids of a vocabulary that is worth a thread */

typedef struct {
    cuddle_tokenizer *t;
    cuddle_status st[PLAN_PARTS];
    char message[PLAN_PARTS][256]; /* errors' messages belong to threads */
} planning;

static void run_part(const void *arg, uint32_t part, void *scratch)
{
    planning *p = *(planning *const *)arg;
    (void)scratch;
    p->st[part] = plan_part(p->t, part);
    if (p->st[part] != CUDDLE_OK)
        snprintf(p->message[part], sizeof p->message[part], "%s", cuddle_errmsg());
}

static cuddle_status plan(cuddle_tokenizer *t)
{
    cdl_pool *pool;
    planning all = { .t = t }, *arg = &all;
    uint32_t threads = t->model.vocab.ids < LARGE ? 1 : cdl_pool_default_threads();
    CDL_TRY(cdl_pool_new(&pool, threads < PLAN_PARTS ? threads : PLAN_PARTS, 0));
    cdl_pool_run(pool, &(cdl_phase){ .run = run_part, .arg = &arg, .chunks = PLAN_PARTS }, 1);
    cdl_pool_free(pool);
    for (int i = 0; i < PLAN_PARTS; i++)
        if (all.st[i] != CUDDLE_OK)
            return cdl_status_fail(all.st[i], "%s", all.message[i]);
    return CUDDLE_OK;
}

cuddle_status cdl_tokenizer_finish(cuddle_tokenizer *t, const char *name)
{
    cdl_token_model *m = &t->model;
    m->raw_bytes = may_stay_bytes(t);
    if (m->raw_bytes)
        t->split[t->n_split - 1].raw_bytes = true;
    find_byte_ids(m);
    if (m->type != CDL_MODEL_UNIGRAM && m->n_unk_text)
        m->unk = cdl_vocab_find(&m->vocab, m->unk_text, m->n_unk_text);
    if (m->type == CDL_MODEL_UNIGRAM && m->unk >= 0 && (uint32_t)m->unk >= m->vocab.ids)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: model: unk_id %d is not in the vocabulary", name, m->unk);
    plan_origins(t);
    return plan(t);
}

/* ---- Reading ---- */

typedef struct {
    cuddle_tokenizer *t;
    const char *name;
    cdl_json_reader r;
    const char *checked;       /* up to here the text is UTF-8 */
    const char *merges;        /* the list, when it stands before the vocabulary */
    size_t n_merges;
    bool has_vocab, has_merges, unigram;
    cdl_token_model_type type;
    bool typed;
    cdl_arena arena;
} reading;

static cuddle_status wrong(const reading *l, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: at byte %zu: %s", l->name, (size_t)(l->r.at - l->r.text), what);
}

static cuddle_status not_utf8(const char *name, size_t at)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: byte %zu is not UTF-8; is the file damaged?", name, at);
}

/* Checks what was read since the last time. */
static cuddle_status check_utf8(reading *l)
{
    size_t n = (size_t)(l->r.at - l->checked), bad = cdl_utf8_valid(l->checked, n);
    if (bad < n)
        return not_utf8(l->name, (size_t)(l->checked - l->r.text) + bad);
    l->checked = l->r.at;
    return CUDDLE_OK;
}

/* The list behind r's '['. Its strings are those of the vocabulary, which were checked. */
static cuddle_status read_merges(reading *l)
{
    CDL_TRY(check_utf8(l));
    CDL_TRY(cdl_load_merges(&l->r, &l->t->model));
    l->checked = l->r.at;
    return CUDDLE_OK;
}

/* Merges need the vocabulary: they wait when it comes later. */
static cuddle_status take_merges(reading *l)
{
    if (l->has_merges)
        return wrong(l, "\"merges\" must be one list");
    l->merges = l->r.at;
    l->has_merges = true;
    if (l->has_vocab) {
        CDL_TRY(cdl_load_expect(&l->r, CDL_JSON_T_ARRAY, "\"merges\" must be a list"));
        l->merges = NULL;
        return read_merges(l);
    }
    CDL_TRY(cdl_json_skip(&l->r));
    l->n_merges = (size_t)(l->r.at - l->merges);
    return CUDDLE_OK;
}

static cuddle_status finish_merges(reading *l)
{
    if (!l->merges)
        return CUDDLE_OK;
    cdl_json_reader r;
    cdl_json_reader_init(&r, l->merges, l->n_merges, l->name);
    CDL_TRY(cdl_load_expect(&r, CDL_JSON_T_ARRAY, "\"merges\" must be a list"));
    return cdl_load_merges(&r, &l->t->model);
}

enum { PARTS_ROOM = 128 << 20, CHUNK = 2 << 20 }; /* bytes of memory that a small file's parts may take */

static bool is_full(const cdl_arena *a)
{
    return a->bytes + CHUNK > a->bytes_max;
}

static cuddle_status too_much(const reading *l)
{
    return cdl_status_fail(CUDDLE_ERR_FULL,
            "%s: at byte %zu: what is no vocab and no merges takes over %zu bytes of memory", l->name,
            (size_t)(l->r.at - l->r.text), l->arena.bytes_max);
}

/* A value of moderate size as a tree. */
static cuddle_status take_tree(reading *l, const cdl_json **out)
{
    cuddle_status st = cdl_json_take(out, &l->arena, &l->r);
    if (st == CUDDLE_ERR_FULL || (st == CUDDLE_ERR_NOMEM && is_full(&l->arena)))
        return too_much(l);
    return st == CUDDLE_OK ? check_utf8(l) : st;
}

static cuddle_status keep_text(reading *l, const cdl_json *v, const char *key, const char **out, uint32_t *n)
{
    *out = "";
    *n = 0;
    if (cdl_json_none(v))
        return CUDDLE_OK;
    if (v->type != CDL_JSON_STRING)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: model: \"%s\" must be a string", l->name, key);
    *n = (uint32_t)v->n;
    *out = cdl_arena_strndup(&l->t->arena, v->as.s, v->n);
    return *out ? CUDDLE_OK : cdl_status_nomem("the tokenizer");
}

static cuddle_status set_type(reading *l, const cdl_json *v)
{
    static const char *const names[] = { "BPE", "WordPiece", "WordLevel", "Unigram" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (cdl_json_is(v, names[i])) {
            l->t->model.type = (cdl_token_model_type)i;
            l->typed = true;
        }
    return l->typed ? CUDDLE_OK : cdl_status_fail(CUDDLE_ERR_UNSUPPORTED,
            "%s: model: type '%.60s' is not known", l->name,
            cdl_json_string(v, "?"));
}

/* One of the model's small members. */
static cuddle_status read_option(reading *l, const char *key)
{
    cdl_token_model *m = &l->t->model;
    const cdl_json *v;
    CDL_TRY(take_tree(l, &v));
    if (strcmp(key, "type") == 0)
        return set_type(l, v);
    if (strcmp(key, "unk_token") == 0)
        return keep_text(l, v, key, &m->unk_text, &m->n_unk_text);
    if (strcmp(key, "continuing_subword_prefix") == 0)
        return keep_text(l, v, key, &m->prefix, &m->n_prefix);
    if (strcmp(key, "end_of_word_suffix") == 0)
        return keep_text(l, v, key, &m->suffix, &m->n_suffix);
    if (strcmp(key, "unk_id") == 0)
        m->unk = (int32_t)cdl_json_int(v, -1);
    if (strcmp(key, "byte_fallback") == 0)
        m->byte_fallback = cdl_json_bool(v, false);
    if (strcmp(key, "fuse_unk") == 0)
        m->fuse_unk = cdl_json_bool(v, false);
    if (strcmp(key, "ignore_merges") == 0)
        m->ignore_merges = cdl_json_bool(v, false);
    if (strcmp(key, "max_input_chars_per_word") == 0)
        m->chars_max = (uint32_t)cdl_json_int(v, 100);
    if (strcmp(key, "dropout") == 0)
        m->dropout = (float)cdl_json_double(v, 0);
    return m->dropout >= 0 && m->dropout <= 1 ? CUDDLE_OK
        : cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: model: dropout must be from 0 to 1", l->name);
}

static cuddle_status read_vocab(reading *l)
{
    cdl_json_token token;
    CDL_TRY(cdl_json_next(&l->r, &token));
    if (l->has_vocab || (token != CDL_JSON_T_OBJECT && token != CDL_JSON_T_ARRAY))
        return wrong(l, "\"vocab\" must be one object of ids or one list of scores");
    l->has_vocab = true;
    l->unigram = token == CDL_JSON_T_ARRAY;
    cdl_token_model *m = &l->t->model;
    CDL_TRY(l->unigram ? cdl_load_vocab_array(&l->r, m) : cdl_load_vocab_object(&l->r, &m->vocab));
    return check_utf8(l);
}

static bool key_is(const cdl_json_reader *r, const char *key)
{
    return r->n == strlen(key) && memcmp(r->s, key, r->n) == 0;
}

/* Files older than model.type: told by what else is there. */
static void guess_type(reading *l)
{
    cdl_token_model *m = &l->t->model;
    if (!l->typed)
        m->type = l->unigram ? CDL_MODEL_UNIGRAM : l->has_merges ? CDL_MODEL_BPE
            : m->n_prefix ? CDL_MODEL_WORDPIECE : CDL_MODEL_WORDLEVEL;
}

static cuddle_status read_model(reading *l)
{
    l->t->model.chars_max = 100;
    CDL_TRY(cdl_load_expect(&l->r, CDL_JSON_T_OBJECT, "\"model\" must be an object"));
    for (;;) {
        cdl_json_token token;
        char key[64];
        CDL_TRY(cdl_json_next(&l->r, &token));
        if (token == CDL_JSON_T_OBJECT_END)
            break;
        if (key_is(&l->r, "vocab")) {
            CDL_TRY(read_vocab(l));
        } else if (key_is(&l->r, "merges")) {
            CDL_TRY(take_merges(l));
        } else {
            snprintf(key, sizeof key, "%.*s", l->r.n < 63 ? (int)l->r.n : 63, l->r.s);
            CDL_TRY(read_option(l, key));
        }
    }
    CDL_TRY(finish_merges(l));
    guess_type(l);
    if (!l->has_vocab)
        return wrong(l, "the model has no \"vocab\"");
    if (l->unigram != (l->t->model.type == CDL_MODEL_UNIGRAM))
        return wrong(l, "the model's vocabulary is not of its type");
    return CUDDLE_OK;
}

enum { ADDED_CONTENT, ADDED_ID, ADDED_SPECIAL, ADDED_NORMALIZED, ADDED_SINGLE, ADDED_LEFT, ADDED_RIGHT, ADDED_KEYS };

/* What an added token's object says. */
typedef struct {
    cdl_buf content;
    int64_t id;
    bool has_content;
    int8_t flag[ADDED_KEYS];   /* 1, 0, or -1: nothing */
} added_object;

/* The value of a known key. */
static cuddle_status read_added_value(reading *l, int key, added_object *o)
{
    cdl_json_token token;
    cdl_json number;
    CDL_TRY(cdl_json_next(&l->r, &token));
    if (key == ADDED_CONTENT && token == CDL_JSON_T_STRING) {
        o->has_content = true;
        return cdl_json_unescape(&l->r, &o->content);
    }
    if (key == ADDED_ID && token == CDL_JSON_T_NUMBER) {
        CDL_TRY(cdl_json_number(&l->r, &number));
        o->id = cdl_json_int(&number, -1);
    }
    if (token == CDL_JSON_T_TRUE || token == CDL_JSON_T_FALSE)
        o->flag[key] = token == CDL_JSON_T_TRUE;
    return cdl_json_skip_from(&l->r, token);
}

/* An object behind its '{'. There may be thousands, so that no tree is made of them. */
static cuddle_status read_added_object(reading *l, added_object *o)
{
    static const char *const names[ADDED_KEYS] = { "content", "id", "special", "normalized", "single_word", "lstrip",
                                                   "rstrip" };
    uint32_t seen = 0;
    for (;;) {
        cdl_json_token token;
        int key = 0;
        CDL_TRY(cdl_json_next(&l->r, &token));
        if (token == CDL_JSON_T_OBJECT_END)
            return CUDDLE_OK;
        while (key < ADDED_KEYS && !key_is(&l->r, names[key]))
            key++;
        if (key < ADDED_KEYS && seen >> key & 1)
            return wrong(l, "added_tokens: a key appears twice in one object");
        seen |= 1u << key;
        CDL_TRY(key < ADDED_KEYS ? read_added_value(l, key, o) : cdl_json_skip(&l->r));
    }
}

static cuddle_status add_added(reading *l, const added_object *o, size_t i)
{
    if (!o->has_content || o->id < 0 || o->id > CDL_VOCAB_ID_MAX)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: added_tokens: entry %zu has no content or no id", l->name, i);
    cdl_added a = { .id = (int32_t)o->id, .content = o->content.data, .n = (uint32_t)o->content.len };
    a.special = o->flag[ADDED_SPECIAL] > 0;
    a.normalized = o->flag[ADDED_NORMALIZED] < 0 ? !a.special : o->flag[ADDED_NORMALIZED] > 0;
    a.single_word = o->flag[ADDED_SINGLE] > 0;
    a.lstrip = o->flag[ADDED_LEFT] > 0;
    a.rstrip = o->flag[ADDED_RIGHT] > 0;
    return a.n ? cdl_tokenizer_add(l->t, &a) : CUDDLE_OK;
}

static cuddle_status read_added_list(reading *l, added_object *o)
{
    cdl_json_token token;
    CDL_TRY(cdl_json_next(&l->r, &token));
    if (token != CDL_JSON_T_ARRAY)
        return cdl_json_skip_from(&l->r, token);
    for (size_t i = 0; ; i++) {
        CDL_TRY(cdl_json_next(&l->r, &token));
        if (token == CDL_JSON_T_ARRAY_END)
            return CUDDLE_OK;
        if (token != CDL_JSON_T_OBJECT)
            return wrong(l, "an added token must be an object");
        *o = (added_object){ .content = o->content, .id = -1 };
        memset(o->flag, -1, sizeof o->flag);
        cdl_buf_clear(&o->content);
        CDL_TRY(read_added_object(l, o));
        CDL_TRY(add_added(l, o, i));
    }
}

static cuddle_status read_added(reading *l)
{
    added_object o = { 0 };
    cuddle_status st = read_added_list(l, &o);
    cdl_buf_free(&o.content);
    CDL_TRY(st);
    return check_utf8(l);
}

static cuddle_status bad_option(const reading *l, const char *key)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: %s is out of range", l->name, key);
}

static cuddle_status read_truncation(reading *l)
{
    const cdl_json *v, *strategy;
    CDL_TRY(take_tree(l, &v));
    if (cdl_json_none(v))
        return CUDDLE_OK;
    int64_t max = cdl_json_int(cdl_json_get(v, "max_length"), -1), stride = cdl_json_int(cdl_json_get(v, "stride"), 0);
    if (max < 0 || max > INT32_MAX || stride < 0 || stride > INT32_MAX)
        return bad_option(l, "truncation");
    strategy = cdl_json_get(v, "strategy");
    l->t->truncation.on = true;
    l->t->truncation.left = cdl_json_is(cdl_json_get(v, "direction"), "Left");
    l->t->truncation.strategy = cdl_json_is(strategy, "OnlyFirst") ? CDL_ONLY_FIRST
        : cdl_json_is(strategy, "OnlySecond") ? CDL_ONLY_SECOND : CDL_LONGEST_FIRST;
    l->t->truncation.max = (uint32_t)max;
    l->t->truncation.stride = (uint32_t)stride;
    return CUDDLE_OK;
}

enum { PAD_MAX = 1 << 20 };

static cuddle_status read_padding(reading *l)
{
    const cdl_json *v;
    CDL_TRY(take_tree(l, &v));
    if (cdl_json_none(v))
        return CUDDLE_OK;
    const cdl_json *length = cdl_json_get(cdl_json_get(v, "strategy"), "Fixed");
    int64_t fixed = cdl_json_int(length, 0);
    int64_t multiple = cdl_json_int(cdl_json_get(v, "pad_to_multiple_of"), 0);
    int64_t id = cdl_json_int(cdl_json_get(v, "pad_id"), 0);
    if (fixed < 0 || fixed > PAD_MAX || multiple < 0 || multiple > PAD_MAX || id < 0 || id > CDL_VOCAB_ID_MAX)
        return bad_option(l, "padding");
    l->t->padding.on = true;
    l->t->padding.left = cdl_json_is(cdl_json_get(v, "direction"), "Left");
    l->t->padding.longest = !length;
    l->t->padding.fixed = (uint32_t)fixed;
    l->t->padding.multiple = (uint32_t)multiple;
    l->t->padding.id = (int32_t)id;
    l->t->padding.type = (uint8_t)cdl_json_int(cdl_json_get(v, "pad_type_id"), 0);
    uint32_t n;
    return keep_text(l, cdl_json_get(v, "pad_token"), "pad_token", &l->t->padding.text, &n);
}

typedef cuddle_status load_part(cuddle_tokenizer *t, const cdl_json *v, const char *name);

static cuddle_status read_part(reading *l, load_part *load)
{
    const cdl_json *v;
    CDL_TRY(take_tree(l, &v));
    return load(l->t, v, l->name);
}

static cuddle_status read_member(reading *l)
{
    if (key_is(&l->r, "model"))
        return read_model(l);
    if (key_is(&l->r, "added_tokens"))
        return read_added(l);
    if (key_is(&l->r, "normalizer"))
        return read_part(l, cdl_load_normalizer);
    if (key_is(&l->r, "pre_tokenizer"))
        return read_part(l, cdl_load_pre_tokenizer);
    if (key_is(&l->r, "post_processor"))
        return read_part(l, cdl_load_post_processor);
    if (key_is(&l->r, "decoder"))
        return read_part(l, cdl_load_decoder);
    if (key_is(&l->r, "truncation"))
        return read_truncation(l);
    if (key_is(&l->r, "padding"))
        return read_padding(l);
    return cdl_json_skip(&l->r);
}

static cuddle_status read_all(reading *l)
{
    CDL_TRY(cdl_load_expect(&l->r, CDL_JSON_T_OBJECT, "a tokenizer.json is an object"));
    for (;;) {
        cdl_json_token token;
        CDL_TRY(cdl_json_next(&l->r, &token));
        if (token == CDL_JSON_T_OBJECT_END)
            break;
        CDL_TRY(read_member(l));
    }
    cdl_json_token end;
    CDL_TRY(cdl_json_next(&l->r, &end));
    CDL_TRY(check_utf8(l));
    if (!l->has_vocab)
        return wrong(l, "there is no \"model\"; is this a tokenizer.json?");
    return cdl_tokenizer_finish(l->t, l->name);
}

cuddle_status cuddle_tokenizer_parse(cuddle_tokenizer **out, const char *json, size_t n, const char *name)
{
    *out = NULL;
    reading l = { .name = name, .checked = json };
    CDL_TRY(cdl_tokenizer_new(&l.t));
    l.arena.bytes_max = l.t->arena.bytes_max = PARTS_ROOM + 4 * n;
    cdl_json_reader_init(&l.r, json, n, name);
    cuddle_status st = read_all(&l);
    if (st == CUDDLE_ERR_NOMEM && is_full(&l.t->arena))
        st = too_much(&l);
    size_t bad = st == CUDDLE_ERR_FORMAT ? cdl_utf8_valid(json, n) : n;
    if (bad < n) /* that is why */
        st = not_utf8(name, bad);
    l.t->arena.bytes_max = 0;
    cdl_arena_free(&l.arena);
    if (st != CUDDLE_OK)
        cuddle_tokenizer_close(l.t);
    else
        *out = l.t;
    return st;
}

cuddle_status cdl_tokenizer_import(cuddle_tokenizer **out, cdl_import_type type, const char *data, size_t n,
        const char *name)
{
    cdl_buf json = { 0 };
    *out = NULL;
    cuddle_status st = cdl_import(&json, type, data, n, name);
    if (st == CUDDLE_OK)
        st = cuddle_tokenizer_parse(out, json.data, json.len, name);
    cdl_buf_free(&json);
    return st;
}

cuddle_status cuddle_tokenizer_open(cuddle_tokenizer **out, const char *path)
{
    cdl_map m;
    *out = NULL;
    CDL_TRY(cdl_map_open(&m, path));
    const char *data = (const char *)m.data;
    cdl_import_type type = cdl_import_find(data, m.size, path);
    cuddle_status st = type ? cdl_tokenizer_import(out, type, data, m.size, path)
                            : cuddle_tokenizer_parse(out, data, m.size, path);
    cdl_map_close(&m);
    return st;
}

cuddle_status cuddle_tokenizer_convert(const char *path, char **json, size_t *n)
{
    cdl_map m;
    cdl_buf out = { 0 };
    cuddle_tokenizer *t = NULL;
    *json = NULL;
    CDL_TRY(cdl_map_open(&m, path));
    const char *data = (const char *)m.data;
    cdl_import_type type = cdl_import_find(data, m.size, path);
    cuddle_status st = type ? cdl_import(&out, type, data, m.size, path) : cdl_buf_append(&out, data, m.size);
    cdl_map_close(&m);
    if (st == CUDDLE_OK)
        st = cuddle_tokenizer_parse(&t, out.data ? out.data : "", out.len, path);
    cuddle_tokenizer_close(t);
    if (st == CUDDLE_OK)
        st = cdl_buf_putc(&out, '\0');
    if (st != CUDDLE_OK) {
        cdl_buf_free(&out);
        return st;
    }
    *n = out.len - 1;
    *json = out.data;
    return CUDDLE_OK;
}
