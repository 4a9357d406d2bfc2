/* cases.h - the tiny models of every architecture with Hugging Face's own outputs: opens one in an engine, and
 * measures how far its logits are from them. */
#ifndef TEST_CASES_H
#define TEST_CASES_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "refs.h"

static const char *const cases_models[] = {
    "llama", "llama_gqa", "llama_tied", "llama_linear", "llama_rope3", "llama_yarn", "mistral", "qwen2", "qwen3",
    "gemma", "gemma2", "gemma3_text", "phi3", "phi3_plain", "gpt2", "smollm3" };

/* Quantised by GPTQ and AWQ; the outputs are those of the dequantised weights (tests/golden/make_int4.py). */
static const char *const cases_int4[] = { "int4/gptq", "int4/gptq_sym", "int4/gptq_v2", "int4/gptq_act_order",
    "int4/awq" };

enum { CASES_INT4 = sizeof cases_int4 / sizeof *cases_int4, CASES_MODELS = sizeof cases_models / sizeof *cases_models,
    CASES_CONTEXT = 96 };

typedef struct {
    const char *name, *set;    /* set: of kernels, or a device; for messages */
    cdl_checkpoint *io;
    cdl_arena arena;
    const cdl_json *meta;
    cuddle_model *model;
    cuddle_engine *engine;
    uint32_t vocab;
} reference;

/* Options that all engines of these tests share. */
static inline cuddle_engine_opts cases_options(void)
{
    return (cuddle_engine_opts){ .size = sizeof(cuddle_engine_opts), .context_max = CASES_CONTEXT, .sequences_max = 4,
                                 .step_tokens = 24, .logits_rows = 7, .threads = 2 };
}

static inline const char *cases_key(const char *name, const char *kind, const char *what)
{
    static char key[128];
    snprintf(key, sizeof key, "%s.%s.%s", name, kind, what);
    return key;
}

/* A file of a model. Those of 4-bit groups ("int4/...") are in the tree alone. */
static inline const char *cases_file(const char *name, const char *file)
{
    static char ring[4][128];
    static unsigned next;
    if (strncmp(name, "int4/", 5))
        return refs_path("models/%s/%s", name, file);
    char *out = ring[next++ % 4];
    snprintf(out, sizeof ring[0], "tests/golden/%s/%s", name, file);
    return out;
}

/* UNSUPPORTED is the caller's to judge; another failure ends the test. */
static inline cuddle_status cases_open(reference *r, const char *name, const char *set, const cuddle_engine_opts *o)
{
    *r = (reference){ .name = name, .set = set };
    MUST(cdl_checkpoint_open(&r->io, cases_file(name, "io.safetensors"), false));
    MUST(cdl_json_load(&r->meta, &r->arena, cases_file(name, "io.json")));
    MUST(cuddle_model_open(&r->model, cases_file(name, "model.safetensors")));
    cuddle_status st = cuddle_engine_open(&r->engine, r->model, o);
    if (st == CUDDLE_ERR_UNSUPPORTED)
        return st;
    MUST(st);
    cuddle_model_facts facts = { .size = sizeof facts };
    cuddle_model_describe(r->model, &facts);
    r->vocab = facts.vocab;
    return CUDDLE_OK;
}

static inline void cases_close(reference *r)
{
    cuddle_engine_close(r->engine);
    cuddle_model_close(r->model);
    cdl_checkpoint_close(r->io);
    cdl_arena_free(&r->arena);
}

/* Row b of the batch without its padding. */
typedef struct {
    int32_t tokens[CASES_CONTEXT], positions[CASES_CONTEXT];
    uint32_t first, n;
} row;

static inline row cases_row(const reference *r, const char *name, uint32_t b)
{
    refs_ints ids = refs_read_ints(r->io, cases_key(name, "in", "input_ids"));
    refs_ints mask = refs_read_ints(r->io, cases_key(name, "in", "attention_mask"));
    refs_ints positions = refs_read_ints(r->io, cases_key(name, "in", "position_ids"));
    row out = { .first = UINT32_MAX };
    for (uint32_t i = 0; i < ids.cols; i++) {
        uint32_t at = b * ids.cols + i;
        if (mask.v && !mask.v[at])
            continue;
        if (out.first == UINT32_MAX)
            out.first = i;
        out.tokens[out.n] = ids.v[at];
        out.positions[out.n++] = positions.v ? positions.v[at] : (int32_t)i;
    }
    free(ids.v);
    free(mask.v);
    free(positions.v);
    return out;
}

typedef struct {
    double error, largest;     /* the greatest difference of a logit, and the greatest logit */
} cases_result;

/* The logits of a row by prompt rows or, one token after the other, by generated ones. */
static inline void cases_feed(const reference *r, const row *x, bool generated, float *got)
{
    cuddle_sequence *s;
    MUST(cuddle_sequence_open(&s, r->engine));
    for (uint32_t i = 0, n = generated ? 1 : x->n; i < x->n; i += n) {
        cuddle_feed f = { .sequence = s, .tokens = x->tokens + i, .n = n, .positions = x->positions + i,
                          .generated = generated, .all_logits = true, .logits = got + (size_t)i * r->vocab };
        MUST(cuddle_engine_feed(r->engine, &f, 1));
    }
    cuddle_sequence_close(s);
}

static inline cases_result cases_measure(const reference *r, const cdl_json *c, bool generated)
{
    cases_result out = { 0 };
    size_t n;
    float *want = refs_read_floats(r->io, cases_key(c->key, "out", "logits"), &n);
    refs_ints ids = refs_read_ints(r->io, cases_key(c->key, "in", "input_ids"));
    assert_non_null(want);
    assert_int_equal(n, (size_t)ids.rows * ids.cols * r->vocab);
    for (size_t i = 0; i < n; i++)
        out.largest = fmax(out.largest, fabs((double)want[i]));
    for (uint32_t b = 0; b < ids.rows; b++) {
        row x = cases_row(r, c->key, b);
        float *got = malloc(sizeof *got * x.n * r->vocab);
        cases_feed(r, &x, generated, got);
        const float *w = want + ((size_t)b * ids.cols + x.first) * r->vocab;
        for (size_t i = 0; i < (size_t)x.n * r->vocab; i++) {
            double e = fabs((double)got[i] - (double)w[i]);
            out.error = e <= out.error ? out.error : e; /* a NaN sticks */
        }
        free(got);
    }
    free(want);
    free(ids.v);
    return out;
}

#endif
