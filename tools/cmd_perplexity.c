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
static const char *cpu;
static bool f32, json;

static const cli_option options[] = {
    { "context", 'c', CLI_INT, &context, "N", "tokens of a chunk or window (default: 512)", 2, 1 << 20 },
    { "stride", 0, CLI_INT, &stride, "N", "move a window by N tokens (default: separate chunks)", 1, 1 << 20 },
    { "chunks", 0, CLI_INT, &chunks_max, "N", "stop after N chunks or windows (default: all)", 1, 1 << 30 },
    { "f32-activations", 0, CLI_FLAG, &f32, NULL, "the checking path: f32 activations and state", 0, 0 },
    { "threads", 't', CLI_INT, &threads, "N", "threads (default: all processors)", 1, 1024 },
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
