/* cmd_perplexity.c - `cuddle perplexity`: how well a model predicts a text.
 *
 * Without --stride as llama.cpp's tool does it: the text is cut into chunks of the context, each
 * starts with the beginning-of-text token in place of its first token (where the tokenizer adds
 * one), and the second half of each chunk counts. With --stride N as Hugging Face's guide does
 * it: a window moves on by N tokens, and what it newly reaches counts.
 * exp(mean of -log p); the error is the standard error of that mean, scaled. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "cuddle_sequence.h"
#include "base/map.h"
#include "base/mem.h"

enum { ROWS = 64, FILE_MAX = 1 << 30 };

static int64_t context = 512, stride, chunks_max, threads;
static const char *device, *state_dtype, *cpu;
static bool f32, fast, json;

static const cli_option options[] = {
    { "context", 'c', CLI_INT, &context, "N", "tokens of a chunk or window (default: 512)", 2, 1 << 20 },
    { "stride", 0, CLI_INT, &stride, "N", "move a window by N tokens (default: separate chunks)", 1, 1 << 20 },
    { "chunks", 0, CLI_INT, &chunks_max, "N", "stop after N chunks or windows (default: all)", 1, 1 << 30 },
    { "f32-activations", 0, CLI_FLAG, &f32, NULL, "the checking path: f32 activations and state", 0, 0 },
    { "threads", 't', CLI_INT, &threads, "N", "threads (default: all processors)", 1, 1024 },
    { "device", 0, CLI_STRING, &device, "D", "cpu, cuda, cuda:N (default: a GPU, else cpu)", 0, 0 },
    { "fast", 0, CLI_FLAG, &fast, NULL, "cuda: long prompts by cuBLASLt; roundings depend on what is batched", 0, 0 },
    { "state-dtype", 0, CLI_STRING, &state_dtype, "T",
      "type of keys and values: f16 or f32; on cuda f16, bf16, i8 or f8e4m3", 0, 0 },
    { "cpu", 0, CLI_STRING, &cpu, "SET", "kernels: ref, avx2, avx512, amx (default: the best here)", 0, 0 },
    { "json", 0, CLI_FLAG, &json, NULL, "print JSON", 0, 0 },
};

typedef struct {
    cuddle_sequence *sequence;
    uint32_t vocab;
    float *logits;             /* [ROWS, vocab]                     */
    int32_t *window;           /* [context]                         */
    double sum, squares;       /* of -log p                         */
    uint64_t counted, chunks;
} score;

/* -log softmax(x)[target] */
static double surprise(const float *x, uint32_t n, int32_t target)
{
    float most = x[0];
    for (uint32_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)expf(x[i] - most);
    return log(sum) + (double)most - (double)x[target];
}

/* Feeds window[0 .. n) and counts the predictions of window[first ..]. first >= 1. */
static cuddle_status score_window(cuddle_engine *e, score *s, uint32_t n, uint32_t first)
{
    CDL_TRY(cuddle_sequence_truncate(s->sequence, 0));
    if (first > 1)
        CDL_TRY(cuddle_sequence_feed(s->sequence, s->window, first - 1, NULL));
    for (uint32_t at = first - 1; at + 1 < n; ) {
        uint32_t rows = n - 1 - at < ROWS ? n - 1 - at : ROWS;
        cuddle_feed f = { .sequence = s->sequence, .tokens = s->window + at, .n = rows, .all_logits = true,
            .logits = s->logits };
        CDL_TRY(cuddle_engine_feed(e, &f, 1));
        for (uint32_t i = 0; i < rows; i++) {
            double nll = surprise(s->logits + (size_t)i * s->vocab, s->vocab, s->window[at + i + 1]);
            s->sum += nll;
            s->squares += nll * nll;
            s->counted++;
        }
        at += rows;
        if (cli_interrupted())
            return cdl_status_fail(CUDDLE_ERR_CANCELLED, "interrupted");
    }
    s->chunks++;
    return CUDDLE_OK;
}

static double perplexity(const score *s)
{
    return exp(s->sum / (double)s->counted);
}

static double error_of(const score *s)
{
    double n = (double)s->counted, mean = s->sum / n, variance = s->squares / n - mean * mean;
    return n > 1 && variance > 0 ? sqrt(variance / (n - 1)) * perplexity(s) : 0;
}

/* ---- Chunks and windows ---- */

typedef struct {
    int32_t *v;
    size_t n;
    bool begins;               /* v[0] is the beginning-of-text token */
} tokens;

static bool enough(const score *s)
{
    return chunks_max && s->chunks >= (uint64_t)chunks_max;
}

static cuddle_status score_chunks(cuddle_engine *e, score *s, const tokens *t)
{
    size_t size = t->n < (size_t)context ? t->n : (size_t)context;
    for (size_t begin = 0; begin + size <= t->n && !enough(s); begin += size) {
        memcpy(s->window, t->v + begin, size * sizeof *s->window);
        if (t->begins)
            s->window[0] = t->v[0];
        CDL_TRY(score_window(e, s, (uint32_t)size, (uint32_t)(size / 2 + 1)));
        cli_progress(NULL, "text", begin + size, t->n);
    }
    return CUDDLE_OK;
}

static cuddle_status score_strides(cuddle_engine *e, score *s, const tokens *t)
{
    size_t reached = 0; /* tokens before are counted */
    for (size_t begin = 0; reached < t->n && !enough(s); begin += (size_t)stride) {
        size_t end = begin + (size_t)context < t->n ? begin + (size_t)context : t->n;
        size_t first = reached > begin ? reached - begin : 1;
        memcpy(s->window, t->v + begin, (end - begin) * sizeof *s->window);
        if (first < end - begin)
            CDL_TRY(score_window(e, s, (uint32_t)(end - begin), (uint32_t)first));
        reached = end;
        cli_progress(NULL, "text", end, t->n);
    }
    return CUDDLE_OK;
}

/* ---- */

static cuddle_status read_tokens(tokens *out, cuddle_model *m, const char *path)
{
    const cuddle_tokenizer *t;
    CDL_TRY(cuddle_model_tokenizer(m, &t));
    char *text = NULL;
    size_t n;
    CDL_TRY(cdl_map_read(&text, &n, path, FILE_MAX));
    cuddle_encoding *e = NULL;
    cuddle_status st = cuddle_encoding_new(&e);
    cuddle_encode_opts o = { .size = sizeof o, .ids_only = true, .no_truncation = true, .no_padding = true };
    if (st == CUDDLE_OK)
        st = cuddle_tokenizer_encode(t, e, text, n, &o);
    cdl_mem_free(text);
    if (st == CUDDLE_OK) {
        cuddle_encoding_view v = { .size = sizeof v };
        cuddle_encoding_look(e, &v);
        out->n = v.n;
        out->v = cdl_mem_array(v.n + 1, sizeof *out->v);
        if (!out->v)
            st = cdl_status_nomem("the tokens");
        else if (v.n)
            memcpy(out->v, v.ids, v.n * sizeof *out->v);
        st = st == CUDDLE_OK ? cuddle_tokenizer_encode(t, e, "", 0, &o) : st;
        cuddle_encoding_look(e, &v);
        out->begins = st == CUDDLE_OK && v.n && out->n && v.ids[0] == out->v[0];
    }
    cuddle_encoding_free(e);
    return st;
}

static cuddle_status score_text(cuddle_engine *e, score *s, const tokens *t)
{
    s->logits = cdl_mem_array(ROWS, s->vocab * sizeof *s->logits);
    s->window = cdl_mem_array((size_t)context, sizeof *s->window);
    if (!s->logits || !s->window)
        return cdl_status_nomem("the logits");
    CDL_TRY(cuddle_sequence_open(&s->sequence, e));
    cuddle_status st = stride ? score_strides(e, s, t) : score_chunks(e, s, t);
    cli_progress_end();
    cuddle_sequence_close(s->sequence);
    return st;
}

static cuddle_status open_engine(cuddle_engine **e, cuddle_model *m)
{
    cuddle_engine_opts o = { .size = sizeof o, .device = device, .fast = fast,
        .state_dtype = state_dtype, .cpu = cpu, .threads = (uint32_t)threads,
        .context_max = (uint32_t)context, .logits_rows = ROWS, .f32_activations = f32, .progress = cli_progress };
    cuddle_status st = cuddle_engine_open(e, m, &o);
    cli_progress_end();
    return st;
}

static cuddle_status measure(cuddle_model *m, const char *path, score *s)
{
    tokens t = { 0 };
    cuddle_engine *e = NULL;
    cuddle_model_facts facts = { .size = sizeof facts };
    cuddle_model_describe(m, &facts);
    s->vocab = facts.vocab;
    cuddle_status st = read_tokens(&t, m, path);
    if (st == CUDDLE_OK && t.n < 3)
        st = cdl_status_fail(CUDDLE_ERR_ARG, "%s: a text of %zu tokens is too short", path, t.n);
    if (st == CUDDLE_OK)
        st = open_engine(&e, m);
    if (st == CUDDLE_OK)
        st = score_text(e, s, &t);
    cuddle_engine_close(e);
    cdl_mem_free(t.v);
    cdl_mem_free(s->logits);
    cdl_mem_free(s->window);
    return st;
}

static int run(char **args);
const cli_command cmd_perplexity = {
    "perplexity", "measure how well a model predicts a text", "MODEL FILE [options]",
    "Without --stride the result is comparable with llama.cpp's llama-perplexity, with it to that of\n"
    "Hugging Face's guide.\n",
    options, sizeof options / sizeof *options, 2, 2, run };

static int run(char **args)
{
    if (stride > context) {
        cli_fail("--stride %lld is over the --context of %lld", (long long)stride, (long long)context);
        return CLI_USAGE;
    }
    cli_catch_interrupt();
    cuddle_model *m;
    if (cuddle_model_open(&m, args[0]) != CUDDLE_OK)
        return cli_fail_status();
    score s = { 0 };
    cuddle_status st = measure(m, args[1], &s);
    cuddle_model_close(m);
    if (st != CUDDLE_OK)
        return cli_fail_status();
    printf(json ? "{\"perplexity\":%.6g,\"error\":%.6g,\"tokens\":%llu,\"chunks\":%llu}\n"
                : "perplexity %.4f +- %.4f (%llu tokens in %llu pieces)\n",
            perplexity(&s), error_of(&s), (unsigned long long)s.counted, (unsigned long long)s.chunks);
    return CLI_OK;
}
