/* fuzz_tokenizer.c - a tokenizer.json, a NUL, and a text: parse, encode, decode.
 * What must hold whatever the file: ids alone equal ids with all the rest, offsets lie in the text, decoded text is
 * UTF-8, streamed or not. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "cuddle_tokenizer.h"

#define HOLD(x)          \
    do {                 \
        if (!(x))        \
            abort();     \
    } while (0)

static size_t count_chars(const char *s, size_t n)
{
    size_t chars = 0;
    for (size_t i = 0; i < n; i++)
        chars += (s[i] & 0xc0) != 0x80;
    return chars;
}

static void check_view(const cuddle_tokenizer *t, const cuddle_encoding *e, size_t chars)
{
    cuddle_encoding_view v = { .size = sizeof v };
    cuddle_encoding_look(e, &v);
    for (size_t i = 0; i < v.n; i++) {
        size_t n = 0;
        HOLD(v.offsets[2 * i] <= v.offsets[2 * i + 1] && v.offsets[2 * i + 1] <= chars);
        cuddle_encoding_token(e, t, i, &n);
    }
    for (size_t i = 0; i < v.overflowing; i++)
        check_view(t, cuddle_encoding_overflow(e, i), chars);
}

static void stream(const cuddle_tokenizer *t, const int32_t *ids, size_t n)
{
    cuddle_decode_stream *s;
    const char *text;
    size_t len;
    if (cuddle_decode_stream_new(&s, t, false) != CUDDLE_OK)
        return;
    for (size_t i = 0; i < n; i++) {
        HOLD(cuddle_decode_stream_put(s, ids[i], &text, &len) == CUDDLE_OK);
        HOLD(cdl_utf8_valid(text, len) == len);
    }
    HOLD(cuddle_decode_stream_end(s, &text, &len) == CUDDLE_OK);
    HOLD(cdl_utf8_valid(text, len) == len);
    cuddle_decode_stream_free(s);
}

static void decode(const cuddle_tokenizer *t, const int32_t *ids, size_t n)
{
    char *text;
    size_t len;
    for (int skip = 0; skip < 2; skip++) {
        if (cuddle_tokenizer_decode(t, ids, n, skip, &text, &len) != CUDDLE_OK)
            return;
        HOLD(cdl_utf8_valid(text, len) == len);
        cuddle_tokenizer_text_free(text);
    }
    stream(t, ids, n < 48 ? n : 48);
}

static void encode(const cuddle_tokenizer *t, const char *s, size_t n)
{
    cuddle_encoding *full = NULL, *fast = NULL;
    cuddle_encode_opts o = { .size = sizeof o }, ids_only = { .size = sizeof ids_only, .ids_only = true };
    HOLD(cuddle_encoding_new(&full) == CUDDLE_OK && cuddle_encoding_new(&fast) == CUDDLE_OK);
    cuddle_status a = cuddle_tokenizer_encode(t, full, s, n, &o), b = cuddle_tokenizer_encode(t, fast, s, n, &ids_only);
    HOLD(a == b);
    if (a == CUDDLE_OK) {
        cuddle_encoding_view v = { .size = sizeof v }, w = { .size = sizeof w };
        cuddle_encoding_look(full, &v);
        cuddle_encoding_look(fast, &w);
        HOLD(v.n == w.n && (!v.n || memcmp(v.ids, w.ids, v.n * sizeof *v.ids) == 0));
        check_view(t, full, count_chars(s, n));
        decode(t, v.ids, v.n);
    }
    o.pair = s;
    o.n_pair = n;
    if (cuddle_tokenizer_encode(t, full, s, n, &o) == CUDDLE_OK)
        check_view(t, full, count_chars(s, n));
    cuddle_encoding_free(full);
    cuddle_encoding_free(fast);
}

/* Each part alone. */
static void parts(const cuddle_tokenizer *t, const char *s, size_t n)
{
    cuddle_encoding *e = NULL, *framed = NULL;
    cuddle_encoding_view v = { .size = sizeof v };
    const char *tokens[2] = { s, "a" };
    size_t lengths[2] = { n, 1 }, len;
    char *text;
    HOLD(cuddle_encoding_new(&e) == CUDDLE_OK && cuddle_encoding_new(&framed) == CUDDLE_OK);
    if (cuddle_tokenizer_normalize(t, s, n, &text, &len) == CUDDLE_OK)
        HOLD(cdl_utf8_valid(text, len) == len);
    cuddle_tokenizer_text_free(text);
    if (cuddle_tokenizer_decode_tokens(t, tokens, lengths, 2, &text, &len) == CUDDLE_OK)
        HOLD(cdl_utf8_valid(text, len) == len);
    cuddle_tokenizer_text_free(text);
    if (cuddle_tokenizer_pre_tokenize(t, e, s, n) == CUDDLE_OK) {
        cuddle_encoding_look(e, &v);
        check_view(t, e, count_chars(s, n));
        if (cuddle_tokenizer_post_process(t, framed, e, v.n ? e : NULL, NULL) == CUDDLE_OK)
            check_view(t, framed, count_chars(s, n));
    }
    cuddle_encoding_free(e);
    cuddle_encoding_free(framed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = memchr(data, 0, size);
    size_t n = nul ? (size_t)(nul - data) : size;
    cuddle_tokenizer *t;
    if (cuddle_tokenizer_parse(&t, (const char *)data, n, "fuzz") != CUDDLE_OK)
        return 0;
    if (nul) {
        encode(t, (const char *)nul + 1, size - n - 1);
        parts(t, (const char *)nul + 1, size - n - 1);
    }
    int32_t ids[64];
    for (int i = 0; i < 64; i++)
        ids[i] = i;
    decode(t, ids, 64);
    cuddle_tokenizer_close(t);
    return 0;
}
