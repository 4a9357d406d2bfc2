/* Merging of many words at once and the table of whole tokens: each instruction set gives what cdl_bpe_run does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "refs.h"
#include "token/bpe_merges.h"
#include "token/bpe_whole.h"

#define FILE_NAME "tests/golden/tokenizers/files/bpe_bytelevel.json"

enum { WORDS = 200, WORD_MAX = CDL_MERGE_FEW };

static uint64_t seed = 1;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(seed >> 33) % below;
}

/* Letters that often join, and now and then any byte. */
static uint32_t make_word(char *s, uint32_t most)
{
    uint32_t n = 1 + draw(most);
    for (uint32_t i = 0; i < n; i++)
        s[i] = draw(20) ? "eeetttaaoinshr lu"[draw(17)] : (char)draw(256);
    return n;
}

static void expect_merged(const cdl_token_model *m, cdl_merge_words *merge)
{
    static char text[WORDS][WORD_MAX];
    static int32_t id[WORDS][WORD_MAX], rank[WORDS][WORD_MAX];
    cdl_merge_word word[WORDS];
    cdl_token_work w = { 0 };
    uint32_t n[WORDS];
    for (int i = 0; i < WORDS; i++) {
        n[i] = make_word(text[i], i % 2 ? WORD_MAX : 20);
        word[i] = (cdl_merge_word){ .s = (const uint8_t *)text[i], .id = id[i], .rank = rank[i], .n = n[i] };
    }
    merge(m, word, WORDS);
    for (int i = 0; i < WORDS; i++) {
        MUST(cdl_bpe_run(m, &w, text[i], n[i]));
        assert_int_equal(word[i].n, w.n_token);
        for (size_t k = 0; k < w.n_token; k++)
            assert_int_equal(id[i][k], w.token[k].id);
    }
    cdl_work_free(&w);
}

/* Gives how many of the words were whole tokens. */
static uint32_t expect_whole(const cdl_token_model *m, cdl_word_look_at *look_at, cdl_whole_find *find)
{
    char *text = malloc(64 * WORD_MAX); /* full, so that reading behind it is found */
    cdl_word_look v[64], plain[64];
    cdl_token_work w = { 0 };
    int32_t id[64];
    uint32_t end[64], others[64], n = 0, k = 0, found = 0;
    for (int i = 0; i < 64; i++)
        end[i] = n += make_word(text + n, i % 8 ? 5 : WORD_MAX);
    char *exact = realloc(text, n);
    look_at(m, v, exact, n, 0, end, 64);
    cdl_word_look_at_plain(m, plain, exact, n, 0, end, 64);
    uint32_t n_others = find(m, v, 64, id, others);
    for (uint32_t i = 0; i < 64; i++) {
        assert_int_equal(v[i].hash, plain[i].hash);
        assert_memory_equal(&v[i].key, &plain[i].key, sizeof v[i].key);
        MUST(cdl_bpe_run(m, &w, v[i].s, v[i].bytes));
        assert_int_equal(id[i], w.n_token == 1 && v[i].bytes <= CDL_WHOLE_BYTES ? w.token[0].id : -1);
        found += id[i] >= 0;
        if (id[i] < 0)
            assert_int_equal(others[k++], i);
    }
    assert_int_equal(k, n_others);
    cdl_work_free(&w);
    free(exact);
    return found;
}

static bool has_avx512(void)
{
#ifdef __x86_64__
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

static void test_words_merge_as_one_by_one(void **state)
{
    (void)state;
    cuddle_tokenizer *t;
    MUST(cuddle_tokenizer_open(&t, FILE_NAME));
    assert_non_null(t->model.whole);
    uint32_t whole = 0;
    for (int i = 0; i < 20; i++) {
        expect_merged(&t->model, cdl_merge_words_plain);
        whole += expect_whole(&t->model, cdl_word_look_at_plain, cdl_whole_find_plain);
#ifdef __x86_64__
        if (has_avx512()) {
            expect_merged(&t->model, cdl_merge_words_avx512);
            expect_whole(&t->model, cdl_word_look_at_avx512, cdl_whole_find_avx512);
        }
#endif
    }
    assert_true(whole > 100 && whole < 1000);
    cuddle_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_merge_as_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
