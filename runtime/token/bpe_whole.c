#include "token/bpe_whole.h"

#include "base/mem.h"

enum { TOGETHER = 256 };

void cdl_word_look_at_plain(const cdl_token_model *m, cdl_word_look *v, const char *s, size_t n, size_t at,
        const uint32_t *end, size_t k)
{
    for (size_t i = 0; i < k; at = end[i++]) {
        size_t bytes = end[i] - at;
        v[i] = (cdl_word_look){ .key = { 0, UINT64_MAX }, .s = s + at, .bytes = (uint32_t)bytes };
        if (bytes <= CDL_WORD_KEY_BYTES) {
            v[i].key = cdl_word_key_of(s + at, bytes, at + 16 <= n);
            v[i].hash = cdl_word_hash(v[i].key);
        } else if (bytes <= CDL_WORD_LOOK_BYTES) {
            v[i].hash = cdl_word_hash_long(s + at, bytes);
        }
        if (m->whole)
            __builtin_prefetch(cdl_whole_line(m, v[i].hash));
    }
}

uint32_t cdl_whole_find_plain(const cdl_token_model *m, const cdl_word_look *v, uint32_t n, int32_t *id,
        uint32_t *others)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        const cdl_whole *line = cdl_whole_line(m, v[i].hash);
        id[i] = -1;
        for (int j = 0; j < CDL_WHOLE_LINE; j++) {
            uint64_t differs = (line[j].low ^ v[i].key.low) | ((line[j].high ^ v[i].key.high) & CDL_WHOLE_KEY);
            id[i] = differs ? id[i] : (int32_t)(line[j].high >> 32 & CDL_WHOLE_ID);
        }
        others[k] = i;
        k += id[i] < 0;
    }
    return k;
}

static void put(cdl_token_model *m, const char *s, size_t n, int32_t id)
{
    cdl_word_key k = cdl_word_key_of(s, n, false);
    cdl_whole *line = (cdl_whole *)cdl_whole_line(m, cdl_word_hash(k));
    for (int i = 0; i < CDL_WHOLE_LINE; i++)
        if (!line[i].high) { /* later tokens, which are rarer, find no place in a full line */
            line[i] = (cdl_whole){ k.low, k.high | (uint64_t)id << 32 };
            return;
        }
}

/* Puts those of v [k] that merging makes one token. */
static cuddle_status put_merged(cdl_token_model *m, cdl_token_work *w, cdl_bpe_word *v, size_t k)
{
    CDL_TRY(cdl_bpe_words(m, w, v, k));
    for (size_t i = 0; i < k; i++)
        if (v[i].n_ids == 1)
            put(m, v[i].s, v[i].n, v[i].ids[0]);
    return CUDDLE_OK;
}

/* room: for the text of a token, and for TOGETHER tokens of CDL_WHOLE_BYTES. */
static cuddle_status put_all(cdl_token_model *m, cdl_token_work *w, char *room)
{
    cdl_bpe_word v[TOGETHER];
    int32_t ids[TOGETHER * CDL_WHOLE_BYTES];
    char *texts = room + m->vocab.longest + 1;
    size_t k = 0;
    for (uint32_t i = 0; i < m->vocab.ids; i++) {
        const char *s;
        size_t n = cdl_bpe_bytes(m, i, room, &s);
        if (!n || n > CDL_WHOLE_BYTES)
            continue;
        if (m->type != CDL_MODEL_BPE || m->ignore_merges) {
            size_t length;
            const char *full = cdl_vocab_text(&m->vocab, i, &length);
            if (!m->vocab.repeats || cdl_vocab_find(&m->vocab, full, length) == (int32_t)i)
                put(m, s, n, (int32_t)i);
            continue;
        }
        char *text = memcpy(texts + CDL_WHOLE_BYTES * k, s, n);
        v[k] = (cdl_bpe_word){ .s = text, .n = (uint32_t)n, .ids = ids + CDL_WHOLE_BYTES * k };
        if (++k < TOGETHER)
            continue;
        CDL_TRY(put_merged(m, w, v, k));
        k = 0;
    }
    return put_merged(m, w, v, k);
}

/* Whether words are looked for as they are, and a token's own text is that token, or merging tells. */
static bool has_whole(const cdl_token_model *m)
{
    switch (m->type) {
    case CDL_MODEL_BPE:
        return m->raw_bytes && m->first_rank;
    case CDL_MODEL_WORDPIECE:
        return m->chars_max >= CDL_WHOLE_BYTES;
    default:
        return m->type == CDL_MODEL_WORDLEVEL;
    }
}

cuddle_status cdl_bpe_plan_whole(cdl_token_model *m)
{
    if (!has_whole(m))
        return CUDDLE_OK;
    uint32_t bits = 6;
    while ((uint32_t)2 << bits < m->vocab.used)
        bits++;
    size_t bytes = sizeof *m->whole * CDL_WHOLE_LINE << bits;
    char *room = cdl_mem_array(m->vocab.longest + 1 + TOGETHER * CDL_WHOLE_BYTES, 1);
    cdl_token_work w = { 0 };
    m->whole_shift = 64 - bits;
    m->whole = cdl_mem_pages(bytes);
    m->whole_bytes = bytes;
    cuddle_status st = room && m->whole ? CUDDLE_OK : cdl_status_nomem("a vocabulary");
    if (st == CUDDLE_OK)
        st = put_all(m, &w, room);
    cdl_work_free(&w);
    cdl_mem_free(room);
    return st;
}
