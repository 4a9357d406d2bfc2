/* load_parts.c - normalizer, pre_tokenizer, post_processor and decoder of a tokenizer.json. */
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "token/load.h"

enum { STEPS_MAX = 256 };

typedef struct {
    cuddle_tokenizer *t;
    const char *name;          /* of the file */
    const char *where;         /* "normalizer" */
} loading;

static cuddle_status refuse(const loading *l, const char *key, const char *what)
{
    return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: %s: \"%s\" %s", l->name, l->where, key, what);
}

static cuddle_status unknown_type(const loading *l, const cdl_json *v)
{
    return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED,
            "%s: %s of type '%.60s' is not known; is the file of a newer version?",
            l->name, l->where, cdl_json_string(cdl_json_get(v, "type"), "(none)"));
}

static bool flag(const cdl_json *v, const char *key, bool fallback)
{
    return cdl_json_bool(cdl_json_get(v, key), fallback);
}

/* A string kept in the tokenizer's arena. */
static cuddle_status get_text(const loading *l, const cdl_json *v, const char *key, bool needed,
        const char **out, uint32_t *n)
{
    const cdl_json *s = cdl_json_get(v, key);
    *out = "";
    *n = 0;
    if (cdl_json_none(s) && !needed)
        return CUDDLE_OK;
    if (!s || s->type != CDL_JSON_STRING)
        return refuse(l, key, "must be a string");
    *n = (uint32_t)s->n;
    *out = cdl_arena_strndup(&l->t->arena, s->as.s, s->n);
    return *out ? CUDDLE_OK : cdl_status_nomem("the tokenizer");
}

/* One character. */
static cuddle_status get_char(const loading *l, const cdl_json *v, const char *key, uint32_t *cp)
{
    const cdl_json *s = cdl_json_get(v, key);
    if (!s || s->type != CDL_JSON_STRING || cdl_utf8_get(s->as.s, s->n, cp) != s->n || !s->n)
        return refuse(l, key, "must be one character");
    return CUDDLE_OK;
}

static cuddle_status get_count(const loading *l, const cdl_json *v, const char *key, uint32_t *out)
{
    int64_t n = cdl_json_int(cdl_json_get(v, key), -1);
    if (n < 0 || n > INT32_MAX)
        return refuse(l, key, "must be a whole number from 0 to 2147483647");
    *out = (uint32_t)n;
    return CUDDLE_OK;
}

/* Sees whether the expression is "c+" or "c{2,}" with one character c of ASCII that means itself. */
static void find_run(cdl_pattern *k)
{
    enum { LEAST_MAX = 1000 };
    const char *s = k->text, *end = s + k->n;
    uint32_t least = 0;
    if (k->n < 2 || (uint8_t)*s >= 0x80 || strchr("\\^$.|?*+()[]{}", *s)) /* strchr: a NUL too */
        return;
    k->run_of = s[0];
    if (s[1] == '+')
        k->run_least = k->n == 2;
    if (s[1] != '{')
        return;
    for (s += 2; s < end && *s >= '0' && *s <= '9' && least < LEAST_MAX; s++)
        least = 10 * least + (uint32_t)(*s - '0');
    if (end - s == 2 && memcmp(s, ",}", 2) == 0 && least < LEAST_MAX)
        k->run_least = least;
}

/* {"String": ".."} or {"Regex": ".."} */
static cuddle_status get_pattern(const loading *l, const cdl_json *v, cdl_pattern *out)
{
    const cdl_json *p = cdl_json_get(v, "pattern");
    if (cdl_json_get(p, "String"))
        return get_text(l, p, "String", true, &out->text, &out->n);
    CDL_TRY(get_text(l, p, "Regex", true, &out->text, &out->n));
    out->scan = cdl_scan_find(out->text, out->n);
    find_run(out);
    return out->scan || out->run_least ? CUDDLE_OK : cdl_regex_new(&out->regex, out->text, out->n, l->name);
}

/* The list of a Sequence is gone through in order, nested ones too. */
typedef cuddle_status load_step(const loading *l, const cdl_json *v);

static cuddle_status each_step(const loading *l, const cdl_json *v, const char *list, load_step *load, int depth)
{
    if (cdl_json_none(v))
        return CUDDLE_OK;
    if (!cdl_json_is(cdl_json_get(v, "type"), "Sequence"))
        return load(l, v);
    const cdl_json *items = cdl_json_get(v, list);
    if (!items || items->type != CDL_JSON_ARRAY || depth > 16)
        return refuse(l, list, "must be a list, nested at most 16 deep");
    for (size_t i = 0; i < items->n; i++)
        CDL_TRY(each_step(l, cdl_json_at(items, i), list, load, depth + 1));
    return CUDDLE_OK;
}

/* Room for one more in a list of the arena, which grows by doubling; zeroed. */
static cuddle_status grow_steps(const loading *l, void *list, uint32_t *n, size_t size, void *out)
{
    void *old, *item;
    memcpy(&old, list, sizeof old);
    if (*n >= STEPS_MAX)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "%s: %s has over %d parts", l->name, l->where, STEPS_MAX);
    if ((*n & (*n - 1)) == 0) {
        void *more = cdl_arena_zalloc(&l->t->arena, *n ? 2 * *n : 1, size);
        if (!more)
            return cdl_status_nomem("the tokenizer");
        if (*n)
            memcpy(more, old, *n * size);
        memcpy(list, &more, sizeof more);
        old = more;
    }
    item = (char *)old + (*n)++ * size;
    memcpy(out, &item, sizeof item);
    return CUDDLE_OK;
}

typedef struct {
    const char *name;
    int type;
} type_name;

static int find_type(const type_name *names, const cdl_json *v)
{
    const cdl_json *type = cdl_json_get(v, "type");
    for (; names->name; names++)
        if (cdl_json_is(type, names->name))
            return names->type;
    return -1;
}

/* ---- Normalizers ---- */

/* Little-endian bytes of the trie, the trie, and the texts it points to. */
static cuddle_status load_charsmap(const loading *l, const cdl_json *v, cdl_norm *s)
{
    const cdl_json *map = cdl_json_get(v, "precompiled_charsmap");
    if (!map || map->type != CDL_JSON_STRING)
        return refuse(l, "precompiled_charsmap", "must be a string");
    uint8_t *bytes = cdl_arena_alloc(&l->t->arena, map->n);
    if (!bytes)
        return cdl_status_nomem("the tokenizer");
    size_t n;
    if (!cdl_base64_decode(map->as.s, map->n, bytes, &n))
        n = 0;
    uint32_t trie = 0;
    if (n >= 4)
        memcpy(&trie, bytes, 4);
    if (n < 4 || trie > n - 4 || trie < 4 || trie % 4)
        return refuse(l, "precompiled_charsmap", "is malformed");
    uint32_t *units = cdl_arena_alloc(&l->t->arena, trie);
    if (!units)
        return cdl_status_nomem("the tokenizer");
    memcpy(units, bytes + 4, trie);
    s->trie = units;
    s->n_trie = trie / 4;
    s->normalized = (const char *)bytes + 4 + trie;
    s->n_normalized = (uint32_t)(n - 4 - trie);
    cdl_norm_find_plain(s);
    return CUDDLE_OK;
}

static const type_name norm_types[] = {
    { "BertNormalizer", CDL_NORM_BERT }, { "Strip", CDL_NORM_STRIP }, { "StripAccents", CDL_NORM_STRIP_ACCENTS },
    { "NFC", CDL_NORM_NFC }, { "NFD", CDL_NORM_NFD }, { "NFKC", CDL_NORM_NFKC }, { "NFKD", CDL_NORM_NFKD },
    { "Lowercase", CDL_NORM_LOWERCASE }, { "Nmt", CDL_NORM_NMT }, { "Precompiled", CDL_NORM_PRECOMPILED },
    { "Replace", CDL_NORM_REPLACE }, { "Prepend", CDL_NORM_PREPEND }, { "ByteLevel", CDL_NORM_BYTE_LEVEL },
    { NULL, 0 } };

static cuddle_status load_norm(const loading *l, const cdl_json *v)
{
    int type = find_type(norm_types, v);
    if (type < 0)
        return unknown_type(l, v);
    cdl_norm *s;
    CDL_TRY(grow_steps(l, &l->t->norm, &l->t->n_norm, sizeof *s, &s));
    s->type = (cdl_norm_type)type;
    s->clean_text = flag(v, "clean_text", true);
    s->chinese = flag(v, "handle_chinese_chars", true);
    s->lowercase = flag(v, "lowercase", true);
    s->strip_accents = flag(v, "strip_accents", s->lowercase);
    s->left = flag(v, "strip_left", true);
    s->right = flag(v, "strip_right", true);
    if (type == CDL_NORM_PRECOMPILED)
        return load_charsmap(l, v, s);
    if (type == CDL_NORM_PREPEND)
        return get_text(l, v, "prepend", true, &s->content, &s->n_content);
    if (type != CDL_NORM_REPLACE)
        return CUDDLE_OK;
    CDL_TRY(get_text(l, v, "content", true, &s->content, &s->n_content));
    if (!s->n_content && cdl_json_is(cdl_json_get(cdl_json_get(v, "pattern"), "Regex"), "\\A +| +\\z")) {
        s->type = CDL_NORM_STRIP; /* SentencePiece's dummy spaces, as they are imported */
        s->blanks = true;
        return CUDDLE_OK;
    }
    return get_pattern(l, v, &s->pattern);
}

cuddle_status cdl_load_normalizer(cuddle_tokenizer *t, const cdl_json *v, const char *name)
{
    loading l = { t, name, "normalizer" };
    return each_step(&l, v, "normalizers", load_norm, 0);
}

/* ---- Pre-tokenizers ---- */

static const type_name split_types[] = {
    { "BertPreTokenizer", CDL_SPLIT_BERT }, { "ByteLevel", CDL_SPLIT_BYTE_LEVEL },
    { "CharDelimiterSplit", CDL_SPLIT_CHAR },
    { "Metaspace", CDL_SPLIT_METASPACE }, { "Whitespace", CDL_SPLIT_WHITESPACE },
    { "WhitespaceSplit", CDL_SPLIT_WHITESPACE_ONLY }, { "Split", CDL_SPLIT_PATTERN },
    { "Punctuation", CDL_SPLIT_PUNCTUATION }, { "Digits", CDL_SPLIT_DIGITS }, { "UnicodeScripts", CDL_SPLIT_SCRIPTS },
    { "FixedLength", CDL_SPLIT_FIXED }, { NULL, 0 } };

static cuddle_status get_behavior(const loading *l, const cdl_json *v, cdl_behavior *out)
{
    static const char *const names[] = { "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous" };
    const cdl_json *b = cdl_json_get(v, "behavior");
    *out = CDL_ISOLATED;
    if (cdl_json_none(b))
        return CUDDLE_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (cdl_json_is(b, names[i])) {
            *out = (cdl_behavior)i;
            return CUDDLE_OK;
        }
    return refuse(l, "behavior", "is not one of Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

/* "always", "first", "never"; older files have add_prefix_space instead. */
static cuddle_status get_scheme(const loading *l, const cdl_json *v, cdl_prepend *out)
{
    const cdl_json *scheme = cdl_json_get(v, "prepend_scheme");
    *out = flag(v, "add_prefix_space", true) ? CDL_PREPEND_ALWAYS : CDL_PREPEND_NEVER;
    if (cdl_json_none(scheme))
        return CUDDLE_OK;
    *out = cdl_json_is(scheme, "always") ? CDL_PREPEND_ALWAYS : cdl_json_is(scheme, "first") ? CDL_PREPEND_FIRST
        : CDL_PREPEND_NEVER;
    return *out == CDL_PREPEND_NEVER && !cdl_json_is(scheme, "never")
        ? refuse(l, "prepend_scheme", "is not one of always, first, never") : CUDDLE_OK;
}

static cuddle_status load_split(const loading *l, const cdl_json *v)
{
    int type = find_type(split_types, v);
    if (type < 0)
        return unknown_type(l, v);
    cdl_split *s;
    CDL_TRY(grow_steps(l, &l->t->split, &l->t->n_split, sizeof *s, &s));
    s->type = (cdl_split_type)type;
    s->add_prefix_space = flag(v, "add_prefix_space", true);
    s->individual = flag(v, "individual_digits", false);
    s->invert = flag(v, "invert", false);
    s->split = flag(v, "split", true);
    CDL_TRY(get_behavior(l, v, &s->behavior));
    switch (s->type) {
    case CDL_SPLIT_BYTE_LEVEL:
        s->use_regex = flag(v, "use_regex", true);
        s->pattern.scan = CDL_SCAN_GPT2;
        return CUDDLE_OK;
    case CDL_SPLIT_PATTERN:
        return get_pattern(l, v, &s->pattern);
    case CDL_SPLIT_CHAR:
        return get_char(l, v, "delimiter", &s->cp);
    case CDL_SPLIT_METASPACE:
        CDL_TRY(get_scheme(l, v, &s->prepend));
        return get_char(l, v, "replacement", &s->cp);
    case CDL_SPLIT_FIXED:
        CDL_TRY(get_count(l, v, "length", &s->length));
        return s->length ? CUDDLE_OK : refuse(l, "length", "must be above 0");
    default:
        return CUDDLE_OK;
    }
}

/* The scan that does what three pre-tokenizers from k on do, or NONE. */
static cdl_scan find_three(const cdl_split *k)
{
    const char *text[3];
    size_t n[3];
    for (int i = 0; i < 3; i++) {
        if (k[i].type != CDL_SPLIT_PATTERN || !k[i].pattern.regex || k[i].behavior != CDL_ISOLATED || k[i].invert)
            return CDL_SCAN_NONE;
        text[i] = k[i].pattern.text;
        n[i] = k[i].pattern.n;
    }
    return cdl_scan_find_three(text, n);
}

/* Digits, each alone, and then GPT-2's pattern. */
static void join_digits(cuddle_tokenizer *t)
{
    cdl_split *k = t->split;
    if (t->n_split != 2 || k[0].type != CDL_SPLIT_DIGITS || !k[0].individual || k[1].type != CDL_SPLIT_BYTE_LEVEL
            || !k[1].use_regex || k[1].add_prefix_space)
        return;
    k[0] = k[1];
    k[0].pattern.scan = CDL_SCAN_DIGITS_GPT2;
    t->n_split = 1;
}

static void join_splits(cuddle_tokenizer *t)
{
    join_digits(t);
    for (uint32_t i = 0; i + 2 < t->n_split; i++) {
        cdl_split *k = &t->split[i];
        cdl_scan scan = find_three(k);
        if (!scan)
            continue;
        for (int j = 0; j < 3; j++)
            cdl_regex_free(k[j].pattern.regex);
        k->pattern = (cdl_pattern){ .scan = scan };
        t->n_split -= 2;
        memmove(k + 1, k + 3, (t->n_split - i - 1) * sizeof *k);
    }
}

cuddle_status cdl_load_pre_tokenizer(cuddle_tokenizer *t, const cdl_json *v, const char *name)
{
    loading l = { t, name, "pre_tokenizer" };
    CDL_TRY(each_step(&l, v, "pretokenizers", load_split, 0));
    join_splits(t);
    return CUDDLE_OK;
}

/* ---- Post-processors ---- */

static const type_name post_types[] = {
    { "TemplateProcessing", CDL_POST_TEMPLATE }, { "ByteLevel", CDL_POST_BYTE_LEVEL },
    { "RobertaProcessing", CDL_POST_ROBERTA }, { "BertProcessing", CDL_POST_BERT }, { NULL, 0 } };

enum { TEMPLATE_IDS_MAX = 1 << 16 };

static cuddle_status load_special(const loading *l, const cdl_json *specials, const cdl_json *id,
        cdl_template_item *out)
{
    const cdl_json *s = cdl_json_get(specials, cdl_json_string(id, "")), *ids = cdl_json_get(s, "ids");
    const cdl_json *tokens = cdl_json_get(s, "tokens");
    if (!s || !cdl_json_len(ids) || cdl_json_len(ids) != cdl_json_len(tokens))
        return refuse(l, cdl_json_string(id, "?"), "is not in special_tokens with ids and tokens");
    out->sequence = -1;
    out->n = (uint32_t)ids->n;
    int32_t *v = cdl_arena_zalloc(&l->t->arena, ids->n, sizeof *v);
    const char **texts = cdl_arena_zalloc(&l->t->arena, ids->n, sizeof *texts);
    if (!v || !texts)
        return cdl_status_nomem("the tokenizer");
    for (size_t i = 0; i < ids->n; i++) {
        int64_t n = cdl_json_int(cdl_json_at(ids, i), -1);
        if (n < 0 || n > CDL_VOCAB_ID_MAX)
            return refuse(l, "ids", "holds no token id");
        v[i] = (int32_t)n;
        texts[i] = cdl_arena_strdup(&l->t->arena, cdl_json_string(cdl_json_at(tokens, i), ""));
        if (!texts[i])
            return cdl_status_nomem("the tokenizer");
    }
    out->ids = v;
    out->texts = texts;
    return CUDDLE_OK;
}

static cuddle_status load_template(const loading *l, const cdl_json *v, const char *key,
        cdl_template_item **out, uint32_t *n)
{
    const cdl_json *list = cdl_json_get(v, key), *specials = cdl_json_get(v, "special_tokens");
    if (!list || list->type != CDL_JSON_ARRAY || list->n > STEPS_MAX)
        return refuse(l, key, "must be a list");
    size_t ids = 0;
    *n = (uint32_t)list->n;
    *out = cdl_arena_zalloc(&l->t->arena, list->n, sizeof **out);
    if (!*out)
        return cdl_status_nomem("the tokenizer");
    for (size_t i = 0; i < list->n; i++) {
        const cdl_json *sequence = cdl_json_get(cdl_json_at(list, i), "Sequence");
        const cdl_json *special = cdl_json_get(cdl_json_at(list, i), "SpecialToken");
        const cdl_json *item = sequence ? sequence : special;
        if (!item)
            return refuse(l, key, "holds something that is neither Sequence nor SpecialToken");
        (*out)[i].type = (uint8_t)cdl_json_int(cdl_json_get(item, "type_id"), 0);
        (*out)[i].sequence = cdl_json_is(cdl_json_get(item, "id"), "B");
        if (!sequence)
            CDL_TRY(load_special(l, specials, cdl_json_get(item, "id"), &(*out)[i]));
        ids += (*out)[i].n;
        if (ids > TEMPLATE_IDS_MAX)
            return refuse(l, key, "adds over 65536 special tokens to a text");
    }
    return CUDDLE_OK;
}

/* ["[SEP]", 102] */
static cuddle_status load_pair(const loading *l, const cdl_json *v, const char *key, const char **text, int32_t *id)
{
    const cdl_json *pair = cdl_json_get(v, key);
    int64_t n = cdl_json_int(cdl_json_at(pair, 1), -1);
    if (cdl_json_len(pair) != 2 || n < 0 || n > CDL_VOCAB_ID_MAX)
        return refuse(l, key, "must be a token and its id");
    *id = (int32_t)n;
    *text = cdl_arena_strdup(&l->t->arena, cdl_json_string(cdl_json_at(pair, 0), ""));
    return *text ? CUDDLE_OK : cdl_status_nomem("the tokenizer");
}

static cuddle_status load_post(const loading *l, const cdl_json *v)
{
    int type = find_type(post_types, v);
    if (type < 0)
        return unknown_type(l, v);
    for (uint32_t i = 0; i < l->t->n_post && type != CDL_POST_BYTE_LEVEL; i++)
        if (l->t->post[i].type != CDL_POST_BYTE_LEVEL)
            return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED,
                    "%s: a post_processor that adds special tokens twice", l->name);
    cdl_post *p;
    CDL_TRY(grow_steps(l, &l->t->post, &l->t->n_post, sizeof *p, &p));
    p->type = (cdl_post_type)type;
    if (type == CDL_POST_TEMPLATE) {
        CDL_TRY(load_template(l, v, "single", &p->single, &p->n_single));
        return load_template(l, v, "pair", &p->pair, &p->n_pair);
    }
    p->trim_offsets = type != CDL_POST_BERT && flag(v, "trim_offsets", true);
    p->add_prefix_space = flag(v, "add_prefix_space", true);
    if (type == CDL_POST_BYTE_LEVEL)
        return CUDDLE_OK;
    CDL_TRY(load_pair(l, v, "sep", &p->sep_text, &p->sep));
    return load_pair(l, v, "cls", &p->cls_text, &p->cls);
}

cuddle_status cdl_load_post_processor(cuddle_tokenizer *t, const cdl_json *v, const char *name)
{
    loading l = { t, name, "post_processor" };
    return each_step(&l, v, "processors", load_post, 0);
}

/* ---- Decoders ---- */

static const type_name decode_types[] = {
    { "BPEDecoder", CDL_DECODE_BPE }, { "ByteLevel", CDL_DECODE_BYTE_LEVEL }, { "WordPiece", CDL_DECODE_WORDPIECE },
    { "Metaspace", CDL_DECODE_METASPACE }, { "CTC", CDL_DECODE_CTC }, { "Replace", CDL_DECODE_REPLACE },
    { "Fuse", CDL_DECODE_FUSE }, { "Strip", CDL_DECODE_STRIP }, { "ByteFallback", CDL_DECODE_BYTE_FALLBACK },
    { NULL, 0 } };

static cuddle_status load_decode(const loading *l, const cdl_json *v)
{
    int type = find_type(decode_types, v);
    if (type < 0)
        return unknown_type(l, v);
    cdl_decode *d;
    cdl_prepend scheme;
    CDL_TRY(grow_steps(l, &l->t->decode, &l->t->n_decode, sizeof *d, &d));
    l->t->decodes = true;
    d->type = (cdl_decode_type)type;
    d->cleanup = flag(v, "cleanup", true);
    switch (d->type) {
    case CDL_DECODE_BPE:
        return get_text(l, v, "suffix", true, &d->text, &d->n);
    case CDL_DECODE_WORDPIECE:
        return get_text(l, v, "prefix", true, &d->text, &d->n);
    case CDL_DECODE_METASPACE:
        CDL_TRY(get_scheme(l, v, &scheme));
        d->prepend = scheme != CDL_PREPEND_NEVER;
        return get_char(l, v, "replacement", &d->cp);
    case CDL_DECODE_CTC:
        CDL_TRY(get_text(l, v, "word_delimiter_token", true, &d->delimiter, &d->n_delimiter));
        return get_text(l, v, "pad_token", true, &d->text, &d->n);
    case CDL_DECODE_REPLACE:
        CDL_TRY(get_text(l, v, "content", true, &d->text, &d->n));
        return get_pattern(l, v, &d->pattern);
    case CDL_DECODE_STRIP:
        CDL_TRY(get_count(l, v, "start", &d->start));
        CDL_TRY(get_count(l, v, "stop", &d->stop));
        return get_char(l, v, "content", &d->cp);
    default:
        return CUDDLE_OK;
    }
}

cuddle_status cdl_load_decoder(cuddle_tokenizer *t, const cdl_json *v, const char *name)
{
    loading l = { t, name, "decoder" };
    l.t->decodes |= !cdl_json_none(v);
    return each_step(&l, v, "decoders", load_decode, 0);
}
