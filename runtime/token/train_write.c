/* train_write.c - what was learned as the "model" of a tokenizer.json. */
#include <string.h>

#include "base/json.h"
#include "token/train.h"

static cuddle_status put_text(cdl_buf *out, const char *key, const char *s)
{
    CDL_TRY(cdl_buf_printf(out, ",\"%s\":", key));
    return s && *s ? cdl_json_put_string(out, s, strlen(s)) : cdl_buf_puts(out, "null");
}

static cuddle_status put_token(cdl_buf *out, const cdl_vocab *v, uint32_t id)
{
    size_t n = 0;
    const char *s = cdl_vocab_text(v, id, &n);
    return cdl_json_put_string(out, s, n);
}

static cuddle_status put_vocab(cdl_buf *out, const cdl_vocab *v)
{
    CDL_TRY(cdl_buf_puts(out, ",\"vocab\":{"));
    for (uint32_t id = 0; id < v->ids; id++) {
        CDL_TRY(cdl_buf_puts(out, id ? ",\n" : "\n"));
        CDL_TRY(put_token(out, v, id));
        CDL_TRY(cdl_buf_printf(out, ":%u", id));
    }
    return cdl_buf_putc(out, '}');
}

static cuddle_status put_merges(cdl_buf *out, const cdl_learning *l)
{
    CDL_TRY(cdl_buf_puts(out, ",\"merges\":["));
    for (size_t i = 0; i < l->n_merge; i++) {
        CDL_TRY(cdl_buf_puts(out, i ? ",\n[" : "\n["));
        CDL_TRY(put_token(out, &l->vocab, l->merge[i].a));
        CDL_TRY(cdl_buf_putc(out, ','));
        CDL_TRY(put_token(out, &l->vocab, l->merge[i].b));
        CDL_TRY(cdl_buf_putc(out, ']'));
    }
    return cdl_buf_putc(out, ']');
}

/* [["piece", score], ...]; 17 digits give the double back */
static cuddle_status put_pieces(cdl_buf *out, const cdl_learning *l)
{
    CDL_TRY(cdl_buf_puts(out, ",\"vocab\":["));
    for (uint32_t id = 0; id < l->vocab.ids; id++) {
        CDL_TRY(cdl_buf_puts(out, id ? ",\n[" : "\n["));
        CDL_TRY(put_token(out, &l->vocab, id));
        CDL_TRY(cdl_buf_printf(out, ",%.17g]", l->score[id]));
    }
    return cdl_buf_putc(out, ']');
}

static cuddle_status write_wordpiece(const cdl_learning *l, cdl_buf *out)
{
    CDL_TRY(cdl_buf_puts(out, "{\"type\":\"WordPiece\""));
    CDL_TRY(put_text(out, "unk_token", l->o.unk_token));
    CDL_TRY(cdl_buf_puts(out, ",\"continuing_subword_prefix\":"));
    CDL_TRY(cdl_json_put_string(out, l->o.continuing_prefix, strlen(l->o.continuing_prefix)));
    CDL_TRY(cdl_buf_puts(out, ",\"max_input_chars_per_word\":100"));
    return put_vocab(out, &l->vocab);
}

static cuddle_status write_unigram(const cdl_learning *l, cdl_buf *out)
{
    int32_t unk = *l->o.unk_token ? cdl_vocab_find(&l->vocab, l->o.unk_token, strlen(l->o.unk_token)) : -1;
    CDL_TRY(cdl_buf_puts(out, "{\"type\":\"Unigram\",\"unk_id\":"));
    CDL_TRY(unk < 0 ? cdl_buf_puts(out, "null") : cdl_buf_printf(out, "%d", unk));
    CDL_TRY(put_pieces(out, l));
    return cdl_buf_puts(out, ",\"byte_fallback\":false");
}

static cuddle_status write_wordlevel(const cdl_learning *l, cdl_buf *out)
{
    CDL_TRY(cdl_buf_puts(out, "{\"type\":\"WordLevel\""));
    CDL_TRY(put_vocab(out, &l->vocab));
    CDL_TRY(cdl_buf_puts(out, ",\"unk_token\":"));
    return cdl_json_put_string(out, l->o.unk_token, strlen(l->o.unk_token));
}

static cuddle_status write_bpe(const cdl_learning *l, cdl_buf *out)
{
    CDL_TRY(cdl_buf_puts(out, "{\"type\":\"BPE\",\"dropout\":null"));
    CDL_TRY(put_text(out, "unk_token", l->o.unk_token));
    CDL_TRY(put_text(out, "continuing_subword_prefix", l->o.continuing_prefix));
    CDL_TRY(put_text(out, "end_of_word_suffix", l->o.end_suffix));
    CDL_TRY(cdl_buf_puts(out, ",\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false"));
    CDL_TRY(put_vocab(out, &l->vocab));
    return put_merges(out, l);
}

cuddle_status cdl_learned_write(const cdl_learning *l, cdl_buf *out)
{
    static cuddle_status (*const write[])(const cdl_learning *l, cdl_buf *out) = {
        [CUDDLE_TRAIN_BPE] = write_bpe, [CUDDLE_TRAIN_WORDPIECE] = write_wordpiece,
        [CUDDLE_TRAIN_UNIGRAM] = write_unigram, [CUDDLE_TRAIN_WORDLEVEL] = write_wordlevel,
    };
    CDL_TRY(write[l->o.model](l, out));
    return cdl_buf_putc(out, '}');
}
