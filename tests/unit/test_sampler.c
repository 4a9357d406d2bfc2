/* test_sampler.c - each stage against transformers (tests/golden/sampler.json) and an f64 reference; ties,
 * NaN, infinities; the distribution of draws; log probabilities; options; memory. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "refs.h"
#include "sampler_reference.h"
#include "torture.h"
#include "base/json.h"
#include "gen/sampler_math.h"
#include "model/sampling_config.h"

static const reference_history nothing;

static cuddle_sampler *open_sampler(size_t vocab, cuddle_sampling o, const reference_history *h)
{
    cuddle_sampler *s;
    o.size = sizeof o;
    MUST(cuddle_sampler_new(&s, vocab, 4096, &o));
    MUST(cuddle_sampler_prompt(s, h->prompt, h->n_prompt));
    for (size_t i = 0; i < h->n_generated; i++)
        MUST(cuddle_sampler_accept(s, h->generated[i]));
    return s;
}

static int32_t pick(cuddle_sampler *s, const float *logits, uint64_t position)
{
    int32_t token;
    MUST(cuddle_sampler_pick(s, logits, position, &token));
    return token;
}

static int32_t pick_once(size_t vocab, const float *logits, cuddle_sampling o, uint64_t position)
{
    cuddle_sampler *s = open_sampler(vocab, o, &nothing);
    int32_t token = pick(s, logits, position);
    cuddle_sampler_free(s);
    return token;
}

/* ---- transformers ---- */

enum { GOLDEN_VOCAB = 48, GOLDEN_DRAWS = 3000 };

static size_t read_tokens(int32_t *out, const cdl_json *list)
{
    for (size_t i = 0; i < cdl_json_len(list); i++)
        out[i] = (int32_t)cdl_json_int(cdl_json_at(list, i), -1);
    return cdl_json_len(list);
}

static cuddle_sampling read_options(const cdl_json *j, cuddle_logit_bias *bias)
{
    cuddle_sampling o = { .size = sizeof o, .mode = CUDDLE_PICK_SAMPLE, .seed = 5, .bias = bias };
    o.temperature = (float)cdl_json_double(cdl_json_get(j, "temperature"), 0);
    o.top_k = (uint32_t)cdl_json_int(cdl_json_get(j, "top_k"), 0);
    o.top_p = (float)cdl_json_double(cdl_json_get(j, "top_p"), 0);
    o.min_p = (float)cdl_json_double(cdl_json_get(j, "min_p"), 0);
    o.typical_p = (float)cdl_json_double(cdl_json_get(j, "typical_p"), 0);
    o.epsilon_cutoff = (float)cdl_json_double(cdl_json_get(j, "epsilon_cutoff"), 0);
    o.eta_cutoff = (float)cdl_json_double(cdl_json_get(j, "eta_cutoff"), 0);
    o.repetition_penalty = (float)cdl_json_double(cdl_json_get(j, "repetition_penalty"), 0);
    o.presence_penalty = (float)cdl_json_double(cdl_json_get(j, "presence_penalty"), 0);
    o.frequency_penalty = (float)cdl_json_double(cdl_json_get(j, "frequency_penalty"), 0);
    o.no_repeat_ngram = (uint32_t)cdl_json_int(cdl_json_get(j, "no_repeat_ngram"), 0);
    const cdl_json *biases = cdl_json_get(j, "bias");
    for (; o.n_bias < cdl_json_len(biases); o.n_bias++) {
        const cdl_json *b = cdl_json_at(biases, o.n_bias);
        bias[o.n_bias] = (cuddle_logit_bias){ atoi(b->key), (float)cdl_json_double(b, 0) };
    }
    return o;
}

/* The reference's distribution, and the draws of a sampler, follow the case's. */
static void check_golden(const cdl_json *c, const float *logits, const reference_history *h, size_t which)
{
    static reference ours, golden;
    cuddle_logit_bias bias[8];
    cuddle_sampling o = read_options(cdl_json_get(c, "options"), bias);
    const cdl_json *kept = cdl_json_get(c, "kept");
    golden = (reference){ .vocab = GOLDEN_VOCAB };
    for (size_t i = 0; i < cdl_json_len(kept); i++) {
        const cdl_json *pair = cdl_json_at(kept, i);
        golden.p[cdl_json_int(cdl_json_at(pair, 0), 0)] = cdl_json_double(cdl_json_at(pair, 1), 0);
    }
    reference_run(&ours, logits, GOLDEN_VOCAB, &o, h);
    for (size_t t = 0; t < GOLDEN_VOCAB; t++)
        if ((ours.p[t] > 0) != (golden.p[t] > 0) || fabs(ours.p[t] - golden.p[t]) > 1e-5)
            fail_msg("case %zu: the reference gives token %zu %g, transformers %g", which, t, ours.p[t], golden.p[t]);
    cuddle_sampler *s = open_sampler(GOLDEN_VOCAB, o, h);
    for (uint64_t at = 0; at < GOLDEN_DRAWS; at++) {
        int32_t token = pick(s, logits, at);
        if (!reference_allows(&golden, cdl_random(o.seed, at), token))
            fail_msg("case %zu: draw %g gives token %d, of probability %g", which, cdl_random(o.seed, at), token,
                    golden.p[token]);
    }
    cuddle_sampler_free(s);
}

static void test_stages_are_those_of_transformers(void **state)
{
    (void)state;
    cdl_arena arena = { 0 };
    const cdl_json *all;
    MUST(cdl_json_load(&all, &arena, "tests/golden/sampler.json"));
    int32_t prompt[64], generated[64];
    reference_history h = { prompt, generated, read_tokens(prompt, cdl_json_get(all, "prompt")),
        read_tokens(generated, cdl_json_get(all, "generated")) };
    const cdl_json *cases = cdl_json_get(all, "cases");
    assert_true(cdl_json_len(cases) > 100);
    for (size_t i = 0; i < cdl_json_len(cases); i++) {
        const cdl_json *c = cdl_json_at(cases, i);
        const cdl_json *row = cdl_json_get(cdl_json_get(all, "rows"), cdl_json_string(cdl_json_get(c, "row"), ""));
        float logits[GOLDEN_VOCAB];
        assert_int_equal(cdl_json_len(row), GOLDEN_VOCAB);
        for (size_t t = 0; t < GOLDEN_VOCAB; t++)
            logits[t] = (float)cdl_json_double(cdl_json_at(row, t), 0);
        check_golden(c, logits, &h, i);
    }
    cdl_arena_free(&arena);
}

/* ---- The reference, on vocabularies of all sizes ---- */

static uint64_t random_state;

static double random_unit(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-53;
}

static bool coin(double p)
{
    return random_unit() < p;
}

static void random_logits(float *x, size_t n)
{
    bool whole = coin(0.2), holes = coin(0.3);
    for (size_t i = 0; i < n; i++) {
        double v = 12 * (random_unit() + random_unit() + random_unit() - 1.5);
        x[i] = (float)(whole ? floor(v) : v);
        if (holes && coin(0.3))
            x[i] = coin(0.5) ? NAN : -INFINITY;
    }
    x[(size_t)(random_unit() * (double)n)] = 3;
}

static cuddle_sampling random_options(size_t vocab, cuddle_logit_bias *bias)
{
    cuddle_sampling o = { .size = sizeof o, .mode = CUDDLE_PICK_SAMPLE, .bias = bias };
    o.seed = (uint64_t)(random_unit() * 1e18);
    o.temperature = (float)(0.1 + 2 * random_unit());
    o.top_k = coin(0.5) ? (uint32_t)(1 + random_unit() * (double)vocab * 1.1) : 0;
    o.top_p = coin(0.4) ? (float)(0.01 + 0.98 * random_unit()) : 0;
    o.min_p = coin(0.3) ? (float)(0.3 * random_unit()) : 0;
    o.typical_p = coin(0.3) ? (float)(0.05 + 0.9 * random_unit()) : 0;
    o.epsilon_cutoff = coin(0.2) ? (float)(0.05 * random_unit()) : 0;
    o.eta_cutoff = coin(0.2) ? (float)(0.05 * random_unit()) : 0;
    o.repetition_penalty = coin(0.3) ? (float)(0.5 + random_unit()) : 0;
    o.presence_penalty = coin(0.3) ? (float)(2 * random_unit() - 1) : 0;
    o.frequency_penalty = coin(0.3) ? (float)(random_unit() - 0.5) : 0;
    o.no_repeat_ngram = coin(0.3) ? (uint32_t)(1 + 3 * random_unit()) : 0;
    while (coin(0.5) && o.n_bias < 4)
        bias[o.n_bias++] = (cuddle_logit_bias){ (int32_t)(random_unit() * (double)vocab),
            coin(0.2) ? -INFINITY : (float)(4 * random_unit() - 2) };
    return o;
}

static bool has_weight(const reference *r)
{
    double sum = 0;
    for (size_t i = 0; i < r->vocab; i++)
        sum += r->p[i];
    return sum > 0;
}

/* 0 when rounding decides what is kept, else draws. */
static size_t compare_random(size_t vocab)
{
    static float logits[REFERENCE_VOCAB];
    static reference r;
    enum { DRAWS = 40, HISTORY = 24 };
    int32_t tokens[2 * HISTORY];
    cuddle_logit_bias bias[4];
    random_logits(logits, vocab);
    cuddle_sampling o = random_options(vocab, bias);
    for (size_t i = 0; i < 2 * HISTORY; i++)
        tokens[i] = (int32_t)(random_unit() * (double)(vocab < 12 ? vocab : 12));
    reference_history h = { tokens, tokens + HISTORY, HISTORY, HISTORY };
    reference_run(&r, logits, vocab, &o, &h);
    if (r.close || !has_weight(&r))
        return 0;
    cuddle_sampler *s = open_sampler(vocab, o, &h);
    for (uint64_t at = 0; at < DRAWS; at++) {
        int32_t token = pick(s, logits, at);
        if (!reference_allows(&r, cdl_random(o.seed, at), token))
            fail_msg("vocabulary %zu, k %u p %g min %g typical %g epsilon %g eta %g ngram %u: draw %g gives token %d of"
                    " probability %g", vocab, o.top_k, o.top_p, o.min_p, o.typical_p, o.epsilon_cutoff, o.eta_cutoff,
                    o.no_repeat_ngram, cdl_random(o.seed, at), token, r.p[token]);
    }
    cuddle_sampler_free(s);
    return DRAWS;
}

static void test_random_options_follow_the_reference(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 2, 3, 15, 16, 17, 31, 63, 64, 65, 255, 256, 257, 511, 513, 1000, 4096 };
    size_t drawn = 0, tries = 0;
    random_state = 11;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < 40; k++, tries++)
            drawn += compare_random(sizes[i]) > 0;
    assert_true(drawn > tries * 2 / 3);
}

/* ---- Ties, NaN, infinities ---- */

static void test_greedy_takes_the_first_of_equals(void **state)
{
    (void)state;
    for (size_t n = 1; n < 70; n++)
        for (size_t at = 0; at < n; at++) {
            float x[70];
            for (size_t i = 0; i < n; i++)
                x[i] = i >= at ? 2 : 1;
            assert_int_equal(pick_once(n, x, (cuddle_sampling){ .mode = CUDDLE_PICK_GREEDY }, 0), at);
        }
}

static void test_top_k_keeps_ties_of_the_last(void **state)
{
    (void)state;
    const float x[] = { 0, 2, 1, 2, 2, -1 };
    bool seen[6] = { 0 };
    cuddle_sampler *s = open_sampler(6, (cuddle_sampling){ .temperature = 1, .top_k = 2 }, &nothing);
    for (uint64_t i = 0; i < 300; i++)
        seen[pick(s, x, i)] = true;
    cuddle_sampler_free(s);
    assert_true(seen[1] && seen[3] && seen[4]);
    assert_false(seen[0] || seen[2] || seen[5]);
}

static void test_top_p_keeps_the_smaller_id_of_a_tie(void **state)
{
    (void)state;
    const float x[] = { 1, 1, 1, 1 };
    cuddle_sampler *s = open_sampler(4, (cuddle_sampling){ .temperature = 1, .top_p = 0.3f }, &nothing);
    for (uint64_t i = 0; i < 200; i++)
        assert_true(pick(s, x, i) < 2);
    cuddle_sampler_free(s);
}

static void test_nan_counts_as_minus_infinity(void **state)
{
    (void)state;
    float x[40];
    for (size_t i = 0; i < 40; i++)
        x[i] = NAN;
    x[33] = -5;
    x[35] = -6;
    const cuddle_sampling modes[] = { { .mode = CUDDLE_PICK_GREEDY }, { .temperature = 1, .top_k = 1 },
        { .temperature = 0.001f }, { .temperature = 1, .top_p = 0.5f }, { .temperature = 1, .min_p = 0.9f },
        { .mode = CUDDLE_PICK_GREEDY, .repetition_penalty = 1.5f } };
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        for (uint64_t at = 0; at < 20; at++)
            assert_int_equal(pick_once(40, x, modes[i], at), 33);
}

static void test_infinity_wins(void **state)
{
    (void)state;
    const float x[] = { 80, INFINITY, 3, INFINITY };
    size_t count[4] = { 0 };
    cuddle_sampler *s = open_sampler(4, (cuddle_sampling){ .temperature = 1 }, &nothing);
    for (uint64_t i = 0; i < 400; i++)
        count[pick(s, x, i)]++;
    cuddle_sampler_free(s);
    assert_int_equal(count[0] + count[2], 0);
    assert_in_range(count[1], 150, 250);
}

static void test_no_finite_logit_is_an_error(void **state)
{
    (void)state;
    float x[20];
    for (size_t i = 0; i < 20; i++)
        x[i] = i % 2 ? NAN : -INFINITY;
    cuddle_sampler *s = open_sampler(20, (cuddle_sampling){ .temperature = 1 }, &nothing);
    int32_t token;
    assert_int_equal(cuddle_sampler_pick(s, x, 0, &token), CUDDLE_ERR_ARG);
    assert_non_null(strstr(cuddle_errmsg(), "-inf"));
    float p;
    assert_int_equal(cuddle_sampler_logprobs(s, x, 0, &p, NULL, 0), CUDDLE_ERR_ARG);
    cuddle_sampler_free(s);
}

static void test_when_all_is_banned_the_models_best_is_taken(void **state)
{
    (void)state;
    const float x[] = { 1, 3, 2 };
    const cuddle_logit_bias all[] = { { 0, -INFINITY }, { 1, -INFINITY }, { 2, -INFINITY } };
    for (int mode = CUDDLE_PICK_GREEDY; mode <= CUDDLE_PICK_SAMPLE; mode++)
        assert_int_equal(pick_once(3, x, (cuddle_sampling){ .mode = mode, .bias = all, .n_bias = 3 }, 0), 1);
}

static void test_greedy_sees_bias_penalties_and_ngrams_only(void **state)
{
    (void)state;
    const float x[] = { 1, 3, 2, 2.5f };
    const int32_t prompt[] = { 1, 3, 1, 2, 1 };
    reference_history h = { .prompt = prompt, .n_prompt = 5 };
    const cuddle_logit_bias bias = { 0, 9 };
    const struct {
        cuddle_sampling o;
        int32_t want;
    } cases[] = {
        { { .mode = CUDDLE_PICK_GREEDY, .temperature = 9, .top_p = 0.1f, .top_k = 1 }, 1 },
        { { .mode = CUDDLE_PICK_GREEDY, .bias = &bias, .n_bias = 1 }, 0 },
        { { .mode = CUDDLE_PICK_GREEDY, .repetition_penalty = 100 }, 0 },
        { { .mode = CUDDLE_PICK_GREEDY, .no_repeat_ngram = 2 }, 1 },
        { { .mode = CUDDLE_PICK_GREEDY, .no_repeat_ngram = 1 }, 0 },
        { { .mode = CUDDLE_PICK_GREEDY, .presence_penalty = 50 }, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cuddle_sampler *s = open_sampler(4, cases[i].o, &h);
        assert_int_equal(pick(s, x, 0), cases[i].want);
        cuddle_sampler_free(s);
    }
}

/* ---- Draws ---- */

/* Pearson's sum over n draws of p[k]. */
static double chi_square(const size_t *count, const double *p, size_t k, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < k; i++) {
        double want = p[i] * (double)n;
        sum += ((double)count[i] - want) * ((double)count[i] - want) / want;
    }
    return sum;
}

static void test_draws_follow_the_distribution(void **state)
{
    (void)state;
    enum { K = 12, N = 60000 };
    const double limit = 34.5; /* 11 degrees of freedom: once in 3,000 */
    double p[K], sum = 0;
    float x[K];
    for (size_t i = 0; i < K; i++)
        sum += p[i] = (double)(1 + i * i);
    for (size_t i = 0; i < K; i++) {
        p[i] /= sum;
        x[i] = (float)log(p[i]);
    }
    for (int by_seed = 0; by_seed < 2; by_seed++) {
        size_t count[K] = { 0 };
        cuddle_sampler *s = open_sampler(K, (cuddle_sampling){ .temperature = 1, .seed = 99 }, &nothing);
        for (uint64_t i = 0; i < N; i++)
            count[by_seed ? pick_once(K, x, (cuddle_sampling){ .temperature = 1, .seed = i }, 7) : pick(s, x, i)]++;
        cuddle_sampler_free(s);
        double chi = chi_square(count, p, K, N);
        if (chi > limit)
            fail_msg("chi-square %g over %s", chi, by_seed ? "seeds" : "positions");
    }
}

/* Pairs of neighbouring positions are independent. */
static void test_draws_at_neighbouring_positions_are_independent(void **state)
{
    (void)state;
    enum { K = 4, N = 40000 };
    const float x[K] = { 0, 0, 0, 0 };
    size_t count[K * K] = { 0 };
    double p[K * K];
    cuddle_sampler *s = open_sampler(K, (cuddle_sampling){ .temperature = 1, .seed = 3 }, &nothing);
    for (uint64_t i = 0; i < N; i++)
        count[K * pick(s, x, 2 * i) + pick(s, x, 2 * i + 1)]++;
    cuddle_sampler_free(s);
    for (size_t i = 0; i < K * K; i++)
        p[i] = 1.0 / (K * K);
    assert_true(chi_square(count, p, K * K, N) < 41); /* 15 degrees of freedom: once in 3,000 */
}

/* Random123's known answer for counter 0 and key 0. */
static void test_the_generator_is_philox(void **state)
{
    (void)state;
    const uint32_t want[] = { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 };
    uint32_t got[4];
    cdl_philox(got, 0, 0);
    assert_memory_equal(got, want, sizeof want);
    double low = 1, high = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        double u = cdl_random(1, i);
        assert_true(u >= 0 && u < 1);
        low = fmin(low, u);
        high = fmax(high, u);
    }
    assert_true(low < 1e-4 && high > 1 - 1e-4);
}

static void test_a_draw_depends_on_seed_position_and_logits_alone(void **state)
{
    (void)state;
    enum { N = 500, OTHERS = 3 };
    static float x[N];
    random_state = 21;
    random_logits(x, N);
    cuddle_sampling o = { .temperature = 1.5f, .top_p = 0.97f, .seed = 42 };
    int32_t alone[50];
    size_t differ = 0;
    cuddle_sampler *s = open_sampler(N, o, &nothing);
    for (uint64_t i = 0; i < 50; i++)
        alone[i] = pick(s, x, i);
    cuddle_sampler *others[OTHERS];
    for (size_t k = 0; k < OTHERS; k++) {
        o.seed = 100 + k;
        others[k] = open_sampler(N, o, &nothing);
    }
    o.seed = 42;
    for (uint64_t i = 50; i-- > 0;) { /* in company, backwards, and twice */
        for (size_t k = 0; k < OTHERS; k++)
            differ += pick(others[k], x, i) != alone[i];
        assert_int_equal(pick(s, x, i), alone[i]);
        assert_int_equal(pick_once(N, x, o, i), alone[i]);
    }
    assert_true(differ > 100);
    for (size_t k = 0; k < OTHERS; k++)
        cuddle_sampler_free(others[k]);
    cuddle_sampler_free(s);
}

/* ---- Log probabilities ---- */

static void check_logprobs(size_t n, size_t k)
{
    static float x[REFERENCE_VOCAB];
    static reference r;
    cuddle_logprob top[64];
    int order[REFERENCE_VOCAB];
    random_logits(x, n);
    reference_run(&r, x, n, &(cuddle_sampling){ .size = sizeof(cuddle_sampling) }, &nothing);
    /* top_k and the penalties do not touch log probabilities */
    cuddle_sampler *s = open_sampler(n, (cuddle_sampling){ .temperature = 0.5f, .top_k = 2 }, &nothing);
    reference_sort(order, r.p, n);
    for (size_t t = 0; t < n; t += 1 + n / 7) {
        float picked;
        MUST(cuddle_sampler_logprobs(s, x, (int32_t)t, &picked, top, k));
        if (r.p[t] > 0)
            assert_true(fabs((double)picked - log(r.p[t])) < 1e-4);
        else
            assert_true(picked == -INFINITY);
    }
    for (size_t i = 0; i < k; i++) {
        bool real = r.p[order[i]] > 0;
        assert_int_equal(top[i].token, real ? order[i] : -1);
        assert_true(real ? fabs((double)top[i].logprob - log(r.p[order[i]])) < 1e-4 : top[i].logprob == -INFINITY);
    }
    cuddle_sampler_free(s);
}

static void test_logprobs_are_the_softmax_of_raw_logits(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 5, 16, 17, 300, 4096 };
    random_state = 4;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int tries = 0; tries < 10; tries++)
            check_logprobs(sizes[i], sizes[i] < 64 ? sizes[i] : 64);
}

static void test_logprobs_outside_the_vocabulary_are_refused(void **state)
{
    (void)state;
    const float x[4] = { 1, 2, 3, 4 };
    float p;
    cuddle_logprob top[5];
    cuddle_sampler *s = open_sampler(4, (cuddle_sampling){ 0 }, &nothing);
    assert_int_equal(cuddle_sampler_logprobs(s, x, 4, &p, NULL, 0), CUDDLE_ERR_ARG);
    assert_int_equal(cuddle_sampler_logprobs(s, x, -1, &p, NULL, 0), CUDDLE_ERR_ARG);
    assert_int_equal(cuddle_sampler_logprobs(s, x, 0, NULL, top, 5), CUDDLE_ERR_ARG);
    MUST(cuddle_sampler_logprobs(s, x, 0, NULL, top, 4));
    assert_int_equal(top[0].token, 3);
    cuddle_sampler_free(s);
}

/* ---- Options, history, memory ---- */

static void test_options_out_of_range_are_named(void **state)
{
    (void)state;
    const cuddle_logit_bias far = { 9, 1 }, nan = { 0, NAN };
    const struct {
        const char *name;
        cuddle_sampling o;
    } cases[] = {
        { "temperature", { .temperature = -1 } }, { "temperature", { .temperature = NAN } },
        { "temperature", { .temperature = INFINITY } }, { "top_p", { .top_p = 1.5f } }, { "top_p", { .top_p = -0.1f } },
        { "min_p", { .min_p = 1.1f } }, { "min_p", { .min_p = NAN } }, { "typical_p", { .typical_p = 2 } },
        { "epsilon_cutoff", { .epsilon_cutoff = 1 } }, { "eta_cutoff", { .eta_cutoff = -1 } },
        { "repetition_penalty", { .repetition_penalty = -1 } },
        { "presence_penalty", { .presence_penalty = INFINITY } },
        { "frequency_penalty", { .frequency_penalty = NAN } }, { "mode", { .mode = (cuddle_pick_mode)7 } },
        { "token 9", { .bias = &far, .n_bias = 1 } }, { "logit bias", { .bias = &nan, .n_bias = 1 } },
        { "n_bias", { .n_bias = 1 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cuddle_sampler *s;
        cuddle_sampling o = cases[i].o;
        o.size = sizeof o;
        assert_int_equal(cuddle_sampler_new(&s, 4, 0, &o), CUDDLE_ERR_ARG);
        assert_null(s);
        assert_non_null(strstr(cuddle_errmsg(), cases[i].name));
    }
    cuddle_sampler *s;
    assert_int_equal(cuddle_sampler_new(&s, 0, 0, NULL), CUDDLE_ERR_ARG);
    assert_int_equal(cuddle_sampler_new(&s, (size_t)1 << 40, 0, NULL), CUDDLE_ERR_ARG);
    assert_int_equal(cuddle_sampler_new(&s, 4, 0, &(cuddle_sampling){ .temperature = 1 }), CUDDLE_ERR_ARG);
}

static void test_an_older_callers_struct_ends_at_its_size(void **state)
{
    (void)state;
    cuddle_sampling o = { .size = offsetof(cuddle_sampling, top_k), .temperature = 1, .top_p = 99 };
    cuddle_sampler *s;
    MUST(cuddle_sampler_new(&s, 4, 0, &o));
    assert_true(cuddle_sampler_is_random(s));
    cuddle_sampler_free(s);
    MUST(cuddle_sampler_new(&s, 4, 0, NULL));
    assert_false(cuddle_sampler_is_random(s));
    cuddle_sampler_free(s);
}

static void test_reset_forgets_and_history_has_an_end(void **state)
{
    (void)state;
    const float x[] = { 1, 3, 2 };
    const int32_t tokens[] = { 1, 1, 77, -3 };
    cuddle_sampling o = { .size = sizeof o, .mode = CUDDLE_PICK_GREEDY, .no_repeat_ngram = 1, .repetition_penalty = 9 };
    cuddle_sampler *s;
    MUST(cuddle_sampler_new(&s, 3, 5, &o));
    MUST(cuddle_sampler_prompt(s, tokens, 4)); /* two of them are outside the vocabulary */
    assert_int_equal(pick(s, x, 0), 2);
    assert_int_equal(cuddle_sampler_prompt(s, tokens, 2), CUDDLE_ERR_FULL);
    MUST(cuddle_sampler_accept(s, 2));
    assert_int_equal(pick(s, x, 0), 0);
    assert_int_equal(cuddle_sampler_accept(s, 0), CUDDLE_ERR_FULL);
    cuddle_sampler_reset(s);
    assert_int_equal(pick(s, x, 0), 1);
    cuddle_sampler_free(s);
}

static const cuddle_logit_bias some_bias = { 1, 1 };
static const cuddle_sampling everything = { .size = sizeof everything, .temperature = 1, .top_k = 20, .top_p = 0.9f,
    .min_p = 0.01f, .typical_p = 0.9f, .epsilon_cutoff = 1e-4f, .eta_cutoff = 1e-4f, .repetition_penalty = 1.1f,
    .presence_penalty = 0.1f, .frequency_penalty = 0.1f, .no_repeat_ngram = 3, .bias = &some_bias, .n_bias = 1 };

static void test_nothing_is_allocated_after_new(void **state)
{
    (void)state;
    float x[300], p;
    cuddle_logprob top[8];
    random_state = 8;
    random_logits(x, 300);
    cuddle_sampler *s = open_sampler(300, everything, &nothing);
    size_t before = cdl_mem_count();
    for (uint64_t i = 0; i < 50; i++) {
        int32_t token = pick(s, x, i);
        MUST(cuddle_sampler_accept(s, token));
        MUST(cuddle_sampler_logprobs(s, x, token, &p, top, 8));
    }
    assert_int_equal(cdl_mem_count(), before);
    cuddle_sampler_free(s);
}

static cuddle_status make_one(void *user)
{
    (void)user;
    cuddle_sampler *s;
    cuddle_status st = cuddle_sampler_new(&s, 100, 100, &everything);
    cuddle_sampler_free(s);
    return st;
}

static void test_new_survives_each_failing_allocation(void **state)
{
    (void)state;
    assert_true(torture(make_one, NULL, false, 1) > 8);
}

/* ---- generation_config.json ---- */

static cuddle_sampling from_config(const char *text)
{
    cdl_arena arena = { 0 };
    const cdl_json *j;
    MUST(cdl_json_parse(&j, &arena, text, strlen(text), "generation_config.json"));
    cuddle_sampling o;
    cdl_sampling_from_config(&o, j);
    cdl_arena_free(&arena);
    return o;
}

static void test_defaults_are_those_of_generation_config(void **state)
{
    (void)state;
    cuddle_sampling o;
    cdl_sampling_from_config(&o, NULL);
    assert_int_equal(o.mode, CUDDLE_PICK_GREEDY);
    assert_int_equal(o.top_k, 50);
    o = from_config("{\"do_sample\":true,\"temperature\":0.6,\"top_k\":20,\"top_p\":0.95,\"min_p\":0.1,"
                    "\"typical_p\":0.9,\"repetition_penalty\":1.05,\"no_repeat_ngram_size\":4,"
                    "\"epsilon_cutoff\":0.01}");
    assert_int_equal(o.mode, CUDDLE_PICK_SAMPLE);
    assert_float_equal(o.temperature, 0.6, 1e-6);
    assert_int_equal(o.top_k, 20);
    assert_float_equal(o.top_p, 0.95, 1e-6);
    assert_float_equal(o.min_p, 0.1, 1e-6);
    assert_float_equal(o.typical_p, 0.9, 1e-6);
    assert_float_equal(o.repetition_penalty, 1.05, 1e-6);
    assert_float_equal(o.epsilon_cutoff, 0.01, 1e-6);
    assert_int_equal(o.no_repeat_ngram, 4);
    o = from_config("{\"do_sample\":true,\"temperature\":0.0,\"top_k\":null,\"top_p\":7,\"min_p\":\"x\"}");
    assert_int_equal(o.mode, CUDDLE_PICK_GREEDY);
}

static void test_a_wrong_generation_config_still_makes_a_sampler(void **state)
{
    (void)state;
    static const char *const texts[] = { "{}", "[]", "null", "3", "{\"do_sample\":true,\"top_k\":-4,\"top_p\":-1}",
        "{\"do_sample\":true,\"temperature\":-2,\"repetition_penalty\":0,\"typical_p\":1e300,\"min_p\":NaN}",
        "{\"do_sample\":\"yes\",\"no_repeat_ngram_size\":1e99,\"eta_cutoff\":Infinity}" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cuddle_sampling o = from_config(texts[i]);
        cuddle_sampler *s;
        MUST(cuddle_sampler_new(&s, 10, 10, &o));
        cuddle_sampler_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stages_are_those_of_transformers),
        cmocka_unit_test(test_random_options_follow_the_reference),
        cmocka_unit_test(test_greedy_takes_the_first_of_equals),
        cmocka_unit_test(test_top_k_keeps_ties_of_the_last),
        cmocka_unit_test(test_top_p_keeps_the_smaller_id_of_a_tie),
        cmocka_unit_test(test_nan_counts_as_minus_infinity),
        cmocka_unit_test(test_infinity_wins),
        cmocka_unit_test(test_no_finite_logit_is_an_error),
        cmocka_unit_test(test_when_all_is_banned_the_models_best_is_taken),
        cmocka_unit_test(test_greedy_sees_bias_penalties_and_ngrams_only),
        cmocka_unit_test(test_draws_follow_the_distribution),
        cmocka_unit_test(test_draws_at_neighbouring_positions_are_independent),
        cmocka_unit_test(test_the_generator_is_philox),
        cmocka_unit_test(test_a_draw_depends_on_seed_position_and_logits_alone),
        cmocka_unit_test(test_logprobs_are_the_softmax_of_raw_logits),
        cmocka_unit_test(test_logprobs_outside_the_vocabulary_are_refused),
        cmocka_unit_test(test_options_out_of_range_are_named),
        cmocka_unit_test(test_an_older_callers_struct_ends_at_its_size),
        cmocka_unit_test(test_reset_forgets_and_history_has_an_end),
        cmocka_unit_test(test_nothing_is_allocated_after_new),
        cmocka_unit_test(test_new_survives_each_failing_allocation),
        cmocka_unit_test(test_defaults_are_those_of_generation_config),
        cmocka_unit_test(test_a_wrong_generation_config_still_makes_a_sampler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
