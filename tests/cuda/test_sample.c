/* test_sample.c - the sampling kernel against the CPU's sampler: the same tokens, draw for draw. */
#include "cuddle_sampler.h"
#include "coverage.h"

enum { ROWS_MOST = 8, SEEN = 24, BANNED = 3, BIAS = 4 };

/* One launch: rows that share options, each with logits, a history and a position of its own. */
typedef struct {
    cuddle_sampling options;
    uint32_t vocab, rows;
    float *logits;                           /* [rows, vocab]                  */
    int32_t history[ROWS_MOST][SEEN];        /* prompt, and then what was generated */
    uint32_t prompt;
    cuddle_logit_bias bias[BIAS];
} sample;

static sample sample_new(uint32_t vocab, uint32_t rows, uint32_t seed, float step)
{
    kernel_random r = { seed };
    sample s = { .options = { .size = sizeof s.options, .seed = seed }, .vocab = vocab, .rows = rows };
    s.prompt = SEEN / 2;
    s.logits = kernel_floats((size_t)rows * vocab, &r);
    for (size_t i = 0; i < (size_t)rows * vocab; i++)
        s.logits[i] = step > 0 ? step * floorf(3 * s.logits[i] / step) : 3 * s.logits[i];
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t k = 0; k < SEEN; k++) /* from a few, so that tokens come twice */
            s.history[i][k] = (int32_t)(kernel_next(&r) % (vocab < 20 ? vocab : 20));
    for (uint32_t i = 0; i < BIAS; i++)
        s.bias[i] = (cuddle_logit_bias){ (int32_t)(i % vocab), (float)i - 1.5f };
    return s;
}

static uint64_t position_of(uint32_t row, uint32_t draw)
{
    return row * 1000 + draw;
}

static int32_t cpu_pick(const sample *s, uint32_t row, uint32_t draw)
{
    cuddle_sampler *sampler;
    int32_t token = -1;
    kernel_must(cuddle_sampler_new(&sampler, s->vocab, SEEN, &s->options), "sampler");
    kernel_must(cuddle_sampler_prompt(sampler, s->history[row], s->prompt), "prompt");
    for (uint32_t k = s->prompt; k < SEEN; k++)
        kernel_must(cuddle_sampler_accept(sampler, s->history[row][k]), "accept");
    if (cuddle_sampler_pick(sampler, s->logits + (size_t)row * s->vocab, position_of(row, draw), &token) != CUDDLE_OK)
        token = -1;
    cuddle_sampler_free(sampler);
    return token;
}

/* The history as the kernel's list. */
static uint32_t list_seen(const sample *s, uint32_t row, cdl_sample_seen *out)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < SEEN; k++) {
        uint32_t i = 0;
        while (i < n && out[i].token != s->history[row][k])
            i++;
        if (i == n)
            out[n++] = (cdl_sample_seen){ s->history[row][k], 0 };
        out[i].count += k >= s->prompt;
    }
    return n;
}

/* Tokens that a bigram of the history bans. */
static uint32_t list_banned(const sample *s, uint32_t row, int32_t *out)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k + 1 < SEEN; k++)
        if (s->history[row][k] == s->history[row][SEEN - 1])
            out[n++] = s->history[row][k + 1];
    return n;
}

static float or_one(float v)
{
    return v == 0 ? 1 : v;
}

static cdl_sample_row row_of(const sample *s, uint32_t row, uint32_t draw)
{
    const cuddle_sampling *o = &s->options;
    return (cdl_sample_row){ .seed = o->seed, .position = position_of(row, draw),
        .top_p = (uint64_t)((double)or_one(o->top_p) * 0x1p40), .inv_temperature = 1 / or_one(o->temperature),
        .min_p = o->min_p, .repetition = or_one(o->repetition_penalty), .presence = o->presence_penalty,
        .frequency = o->frequency_penalty, .top_k = o->top_k, .greedy = o->mode == CUDDLE_PICK_GREEDY,
        .n_bias = (uint32_t)o->n_bias };
}

static bool has_penalty(const cuddle_sampling *o)
{
    return o->repetition_penalty != 0 || o->presence_penalty != 0 || o->frequency_penalty != 0;
}

/* Every row `draws` times, in launches of its own. */
static void sample_case(const char *what, sample s, uint32_t draws)
{
    static cdl_sample_seen seen[ROWS_MOST * SEEN];
    static int32_t banned[ROWS_MOST * SEEN];
    cdl_sample_row rows[ROWS_MOST];
    int32_t got[ROWS_MOST];
    size_t bytes = (size_t)s.rows * s.vocab * sizeof(float);
    for (uint32_t d = 0; d < draws; d++) {
        uint32_t n_seen = 0, n_banned = 0;
        for (uint32_t i = 0; i < s.rows; i++) {
            rows[i] = row_of(&s, i, d);
            rows[i].first_seen = n_seen;
            rows[i].first_banned = n_banned;
            rows[i].n_seen = has_penalty(&s.options) ? list_seen(&s, i, seen + n_seen) : 0;
            rows[i].n_banned = s.options.no_repeat_ngram ? list_banned(&s, i, banned + n_banned) : 0;
            n_seen += rows[i].n_seen;
            n_banned += rows[i].n_banned;
        }
        cdl_sample_args a = { .logits = (const float *)driver_up(s.logits, bytes),
            .edited = (float *)driver_up(NULL, bytes), .rows = (const cdl_sample_row *)driver_up(rows, sizeof rows),
            .bias = (const cdl_sample_bias *)driver_up(s.bias, sizeof s.bias),
            .seen = (const cdl_sample_seen *)driver_up(seen, sizeof seen),
            .banned = (const int32_t *)driver_up(banned, sizeof banned),
            .tokens = (int32_t *)driver_up(NULL, sizeof got), .vocab = s.vocab, .stride = s.vocab };
        driver_launch("sample", "sample_fwd_kernel_f32", s.rows, 1, 1, CDL_CUDA_SAMPLE_THREADS, 0, &a);
        driver_must(driver.copy_down(got, (device_ptr)a.tokens, s.rows * sizeof *got), "cuMemcpyDtoH");
        for (uint32_t i = 0; i < s.rows; i++) {
            int32_t want = cpu_pick(&s, i, d);
            if (got[i] != want)
                fail_msg("%s: row %u, draw %u: token %d, not %d", what, i, d, got[i], want);
        }
        driver_free_all();
    }
    printf("  %s: %u tokens\n", what, s.rows * draws);
    free(s.logits);
}

static void test_greedy(void **state)
{
    (void)state;
    sample s = sample_new(50257, 3, 1, 0);
    s.options.mode = CUDDLE_PICK_GREEDY;
    sample_case("greedy", s, 1);
    s = sample_new(129, 8, 2, 4); /* many of the same */
    s.options.mode = CUDDLE_PICK_GREEDY;
    sample_case("greedy with ties", s, 1);
    s = sample_new(1, 2, 3, 0);
    s.options.temperature = 1;
    sample_case("a vocabulary of one", s, 2);
}

static void test_draws(void **state)
{
    (void)state;
    static const struct { float temperature, top_p, min_p; uint32_t top_k; } cases[] = {
        { 1, 0, 0, 0 }, { 0.7f, 0.9f, 0, 0 }, { 2, 0.99f, 0, 0 }, { 1, 0, 0, 50 }, { 1.3f, 0.5f, 0.02f, 40 },
        { 1, 0, 0.1f, 0 }, { 0.05f, 0.95f, 0, 5 }, { 1, 1e-6f, 0, 0 }, { 1, 0.9f, 0, 1 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int ties = 0; ties < 2; ties++) {
            sample s = sample_new(i == 2 ? 100003 : 5003, 5, 10 + (uint32_t)i, ties ? 0.75f : 0);
            s.options.mode = CUDDLE_PICK_SAMPLE;
            s.options.temperature = cases[i].temperature;
            s.options.top_p = cases[i].top_p;
            s.options.min_p = cases[i].min_p;
            s.options.top_k = cases[i].top_k;
            char what[96];
            snprintf(what, sizeof what, "T %g, top-p %g, min-p %g, top-k %u%s", (double)cases[i].temperature,
                    (double)cases[i].top_p, (double)cases[i].min_p, cases[i].top_k, ties ? ", ties" : "");
            sample_case(what, s, 6);
        }
}

static void test_edits(void **state)
{
    (void)state;
    for (int greedy = 0; greedy < 2; greedy++) {
        sample s = sample_new(301, 6, 30, 0);
        s.options.mode = greedy ? CUDDLE_PICK_GREEDY : CUDDLE_PICK_SAMPLE;
        s.options.bias = s.bias;
        s.options.n_bias = BIAS;
        s.options.repetition_penalty = 1.3f;
        s.options.presence_penalty = 0.4f;
        s.options.frequency_penalty = 0.2f;
        s.options.no_repeat_ngram = 2;
        s.options.top_k = greedy ? 0 : 30;
        for (uint32_t i = 0; i < 20; i++) /* the seen ones lead, so that every edit decides */
            for (uint32_t row = 0; row < s.rows; row++)
                s.logits[row * s.vocab + i] += 6;
        sample_case(greedy ? "edits, greedy" : "edits", s, greedy ? 1 : 12);
    }
}

static void test_odd_logits(void **state)
{
    (void)state;
    static const float odd[] = { NAN, -INFINITY, INFINITY };
    for (size_t k = 0; k < 3; k++) {
        sample s = sample_new(1031, 4, 40 + (uint32_t)k, 0);
        s.options.temperature = 0.8f;
        s.options.top_p = 0.9f;
        for (uint32_t i = 0; i < s.rows * s.vocab; i += 7)
            s.logits[i] = odd[k];
        for (uint32_t i = 0; i < s.vocab; i++) /* a row of nothing else */
            s.logits[s.vocab + i] = odd[k];
        sample_case(k == 0 ? "NaN" : k == 1 ? "-inf" : "inf", s, 3);
    }
    sample s = sample_new(2, 1, 50, 0); /* all banned: what the model prefers */
    cuddle_logit_bias ban[2] = { { 0, -INFINITY }, { 1, -INFINITY } };
    memcpy(s.bias, ban, sizeof ban);
    s.options.bias = s.bias;
    s.options.n_bias = 2;
    s.options.temperature = 1;
    sample_case("all banned", s, 2);
}

static void test_coverage(void **state)
{
    (void)state;
    coverage_of("sample");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_edits),
        cmocka_unit_test(test_odd_logits),
        cmocka_unit_test(test_coverage),
    };
    return driver_open() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
