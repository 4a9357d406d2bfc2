/* test_texts.c - strings of another language, which here are arrays of code points, as UTF-8. */
#include "refs.h"
#include "torture.h"

#include "base/utf8.h"
#include "cuddle_tokenizer.h"

enum { STRINGS = 300, POINTS_MAX = 500 };

typedef struct {
    uint32_t cp[POINTS_MAX];
    ptrdiff_t n;
    char ascii[POINTS_MAX];
} string;

typedef struct {
    string v[STRINGS];
    uint8_t ascii[STRINGS];
} list;

static void *item(void *l, ptrdiff_t i)
{
    return &((list *)l)->v[i];
}

static const char *utf8(void *s, ptrdiff_t *n)
{
    string *x = s;
    *n = x->n;
    return x->ascii;
}

static ptrdiff_t length(void *s)
{
    return ((string *)s)->n;
}

static uint32_t *copy(void *s, uint32_t *to, ptrdiff_t room, int nul)
{
    const string *x = s;
    assert_true(room >= x->n && !nul);
    memcpy(to, x->cp, (size_t)x->n * sizeof *to);
    return to;
}

static uint32_t *copy_nothing(void *s, uint32_t *to, ptrdiff_t room, int nul)
{
    (void)s, (void)to, (void)room, (void)nul;
    return NULL;
}

static const cuddle_string_calls calls = { sizeof calls, item, utf8, length, copy };

static list *make_list(void)
{
    static const uint32_t some[] = { 'a', ' ', 0xe9, 0x3b1, 0xe01, 0x4e2d, 0x1f44d };
    list *l = calloc(1, sizeof *l);
    for (int i = 0; i < STRINGS; i++) {
        l->ascii[i] = i % 3 == 0;
        l->v[i].n = i * 7 % POINTS_MAX;
        for (ptrdiff_t k = 0; k < l->v[i].n; k++) {
            l->v[i].cp[k] = some[(i + k * k) % (l->ascii[i] ? 2 : 7)];
            l->v[i].ascii[k] = (char)l->v[i].cp[k];
        }
    }
    return l;
}

static void test_texts_are_what_the_strings_are(void **state)
{
    (void)state;
    list *l = make_list();
    cuddle_texts *x;
    MUST(cuddle_texts_new(&x));
    for (int again = 0; again < 2; again++) {
        const char *const *text;
        const size_t *bytes;
        MUST(cuddle_texts_read(x, &calls, l, l->ascii, STRINGS));
        cuddle_texts_look(x, &text, &bytes);
        for (int i = 0; i < STRINGS; i++) {
            char want[4 * POINTS_MAX];
            size_t n = 0;
            for (ptrdiff_t k = 0; k < l->v[i].n; k++)
                n += cdl_utf8_put(want + n, l->v[i].cp[k]);
            assert_int_equal(bytes[i], n);
            assert_memory_equal(text[i], want, n);
            assert_true(!l->ascii[i] || text[i] == l->v[i].ascii);
        }
    }
    cuddle_texts_free(x);
    free(l);
}

static void test_what_is_no_text_is_named(void **state)
{
    (void)state;
    list *l = make_list();
    cuddle_string_calls bad = calls;
    cuddle_texts *x;
    MUST(cuddle_texts_new(&x));
    l->v[100].cp[3] = 0xdc00;
    assert_int_equal(cuddle_texts_read(x, &calls, l, l->ascii, STRINGS), CUDDLE_ERR_ARG);
    assert_non_null(strstr(cuddle_errmsg(), "text 100 has a surrogate"));
    l->v[50].n = -1;
    assert_int_equal(cuddle_texts_read(x, &calls, l, l->ascii, STRINGS), CUDDLE_ERR_ARG);
    assert_non_null(strstr(cuddle_errmsg(), "text 50 is no string"));
    bad.copy = copy_nothing;
    assert_int_equal(cuddle_texts_read(x, &bad, l, l->ascii, STRINGS), CUDDLE_ERR_ARG);
    assert_non_null(strstr(cuddle_errmsg(), "text 1: its characters"));
    cuddle_texts_free(x);
    free(l);
}

static cuddle_status read_once(void *user)
{
    cuddle_texts *x;
    cuddle_status st = cuddle_texts_new(&x);
    if (st == CUDDLE_OK)
        st = cuddle_texts_read(x, &calls, user, ((list *)user)->ascii, STRINGS);
    cuddle_texts_free(x);
    return st;
}

static void test_texts_with_failing_allocations_give_nomem(void **state)
{
    (void)state;
    list *l = make_list();
    assert_true(torture(read_once, l, false, 1) > 4);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_are_what_the_strings_are),
        cmocka_unit_test(test_what_is_no_text_is_named),
        cmocka_unit_test(test_texts_with_failing_allocations_give_nomem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
