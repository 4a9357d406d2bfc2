/* test_token_limits.c - small tokenizer.json files that would make much of a short text: each is refused, or encodes,
 * in less than 1 GB of memory, which is all that the process gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "base/buf.h"
#include "cuddle_tokenizer.h"

static char text[16384];
static size_t text_n = sizeof text;

/* ---- Files, with ' for " ---- */

static const char BPE[] = "{'type':'BPE','vocab':{'a':0,'<0x61>':1,'<0x78>':2},'merges':[],'byte_fallback':true}";

/* {"KEY": PART, ..., "model": MODEL} */
static void make(cdl_buf *b, const char *key, const char *part, const char *model)
{
    assert_int_equal(cdl_buf_printf(b, "{'%s':%s,'model':%s}", key, part, model), CUDDLE_OK);
}

static void repeat(cdl_buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(cdl_buf_puts(b, s), CUDDLE_OK);
}

/* A list of n times the same. */
static void list(cdl_buf *b, const char *before, const char *item, size_t n, const char *behind)
{
    repeat(b, before, 1);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(cdl_buf_printf(b, "%s%s", i ? "," : "", item), CUDDLE_OK);
    repeat(b, behind, 1);
}

/* ---- What is tried ---- */

typedef enum { ANY, REFUSED, GIVES_UP, ENCODES } outcome;

static void decode(const cuddle_tokenizer *t)
{
    static int32_t ids[4096];
    char *out;
    size_t n;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        ids[i] = (int32_t)(i & 1);
    cuddle_status st = cuddle_tokenizer_decode(t, ids, sizeof ids / sizeof *ids, false, &out, &n);
    assert_int_not_equal(st, CUDDLE_ERR_NOMEM);
    cuddle_tokenizer_text_free(out);
}

static cuddle_status encode(const cuddle_tokenizer *t, bool ids_only, bool pair)
{
    cuddle_encoding *e;
    cuddle_encode_opts o = { .size = sizeof o, .ids_only = ids_only, .n_pair = text_n };
    o.pair = pair ? text : NULL;
    assert_int_equal(cuddle_encoding_new(&e), CUDDLE_OK);
    cuddle_status st = cuddle_tokenizer_encode(t, e, text, text_n, &o);
    cuddle_encoding_free(e);
    assert_int_not_equal(st, CUDDLE_ERR_NOMEM);
    return st;
}

static void try_file(const char *what, cdl_buf *b, outcome want)
{
    cuddle_tokenizer *t;
    for (char *s = b->data; (s = strchr(s, '\'')); )
        *s = '"';
    cuddle_status st = cuddle_tokenizer_parse(&t, b->data, b->len, "hostile.json");
    print_message("%s: %s\n", what, st == CUDDLE_OK ? "opens" : cuddle_errmsg());
    cdl_buf_free(b);
    assert_int_not_equal(st, CUDDLE_ERR_NOMEM);
    assert_true(want == ANY || (st == CUDDLE_OK) == (want != REFUSED));
    if (st != CUDDLE_OK)
        return;
    for (int i = 0; i < 2; i++) {
        st = encode(t, i == 0, i == 1);
        print_message("    %s\n", st == CUDDLE_OK ? "encodes" : cuddle_errmsg());
        assert_true(want == ANY || (st == CUDDLE_OK) == (want == ENCODES));
        const char *said = st == CUDDLE_OK ? "model: it did" : cuddle_errmsg();
        assert_true(strchr(said, ':') || strstr(said, "regular expression") || strstr(said, "truncation"));
    }
    decode(t);
    cuddle_tokenizer_close(t);
}

static void try_part(const char *what, const char *key, const char *part, outcome want)
{
    cdl_buf b = { 0 };
    make(&b, key, part, BPE);
    try_file(what, &b, want);
}

/* A Sequence of n parts. */
static void try_sequence(const char *what, const char *key, const char *items, const char *item, size_t n,
        outcome want)
{
    cdl_buf b = { 0 }, begin = { 0 };
    assert_int_equal(cdl_buf_printf(&begin, "{'type':'Sequence','%s':[", items), CUDDLE_OK);
    list(&b, begin.data, item, n, "]}");
    try_part(what, key, b.data, want);
    cdl_buf_free(&b);
    cdl_buf_free(&begin);
}

/* ---- Tests ---- */

static void test_texts_that_grow(void **state)
{
    (void)state;
    static const char more[] = "{'type':'Replace','pattern':{'String':'a'},'content':'aaaaaaaaaaaaaaaaaaaaaaaa'}";
    static const char every[] = "{'type':'Replace','pattern':{'Regex':''},'content':'aaaaaaaaaaaaaaaaaaaaaaaa'}";
    static const char lower[] = "{'type':'Lowercase'}";
    try_sequence("20 x a -> 24 a", "normalizer", "normalizers", more, 20, GIVES_UP);
    try_sequence("256 x a -> 24 a", "normalizer", "normalizers", more, 256, GIVES_UP);
    try_sequence("nothing -> 24 a", "normalizer", "normalizers", every, 5, GIVES_UP);
    try_sequence("too many parts", "normalizer", "normalizers", lower, 300, REFUSED);
    try_sequence("NFKD and ByteLevel", "normalizer", "normalizers", "{'type':'NFKD'},{'type':'ByteLevel'}", 10,
            ENCODES);
    try_sequence("a mark in front", "pre_tokenizer", "pretokenizers", "{'type':'FixedLength','length':1},"
            "{'type':'Metaspace','replacement':'\xe2\x96\x81','prepend_scheme':'always','split':false}", 6, ANY);
    cdl_buf b = { 0 }, p = { 0 };
    repeat(&b, "{'type':'Replace','pattern':{'String':'a'},'content':'", 1);
    repeat(&b, "x", 1 << 16);
    repeat(&b, "'}", 1);
    try_part("a -> 64 kB", "normalizer", b.data, GIVES_UP);
    repeat(&p, "{'type':'Prepend','prepend':'", 1);
    repeat(&p, "x", 1 << 20);
    repeat(&p, "'}", 1);
    try_sequence("64 x Prepend of 1 MB", "normalizer", "normalizers", p.data, 64, GIVES_UP);
    cdl_buf_free(&b);
    cdl_buf_free(&p);
}

static void test_added_tokens_that_grow(void **state)
{
    (void)state;
    cdl_buf b = { 0 };
    list(&b, "{'normalizer':{'type':'Sequence','normalizers':[",
            "{'type':'Replace','pattern':{'String':'a'},'content':'aaaa'}", 40, "]},");
    list(&b, "'added_tokens':[", "{'id':3,'content':'aaaa','normalized':true}", 100, "],'model':");
    repeat(&b, BPE, 1);
    repeat(&b, "}", 1);
    try_file("added tokens normalized to much", &b, REFUSED);
}

static void test_tokens_that_grow(void **state)
{
    (void)state;
    cdl_buf b = { 0 };
    repeat(&b, "{'model':{'type':'BPE','byte_fallback':true,'vocab':{'<0x78>':0},'merges':[],"
            "'continuing_subword_prefix':'", 1);
    repeat(&b, "x", 1 << 16);
    repeat(&b, "'}}", 1);
    try_file("a prefix of 64 kB in bytes", &b, GIVES_UP);
}

static void test_many_parts(void **state)
{
    (void)state;
    try_part("a stride as long as a part", "truncation", "{'max_length':512,'stride':512}", GIVES_UP);
    try_part("a stride beyond a part", "truncation", "{'max_length':5,'stride':1152921504606846976}", REFUSED);
    try_part("parts that overlap nearly all", "truncation", "{'max_length':8000,'stride':7999}", GIVES_UP);
    try_part("parts of one token", "truncation", "{'max_length':1,'stride':0}", ANY);
    try_part("no tokens", "truncation", "{'max_length':0,'stride':7}", ANY);
    try_part("padding to 2^60", "padding", "{'strategy':{'Fixed':1152921504606846976},'pad_id':0}", REFUSED);
    try_part("padding to -1", "padding", "{'strategy':{'Fixed':-1},'pad_id':0}", REFUSED);
    try_part("padding with id 2^31", "padding", "{'strategy':'BatchLongest','pad_id':2147483648}", REFUSED);
    try_part("multiples of 2^60", "padding", "{'strategy':'BatchLongest','pad_to_multiple_of':1152921504606846976}",
            REFUSED);
    cdl_buf b = { 0 };
    repeat(&b, "{'truncation':{'max_length':100,'stride':0},'padding':{'strategy':{'Fixed':1000000},'pad_id':0},", 1);
    assert_int_equal(cdl_buf_printf(&b, "'model':%s}", BPE), CUDDLE_OK);
    try_file("many parts, each padded to a million", &b, GIVES_UP);
    repeat(&b, "{'padding':{'strategy':{'Fixed':1000000},'pad_id':0,'pad_token':'", 1);
    repeat(&b, "x", 1 << 16);
    assert_int_equal(cdl_buf_printf(&b, "'},'model':%s}", BPE), CUDDLE_OK);
    try_file("padding with a long text", &b, ENCODES);
}

static void test_templates(void **state)
{
    (void)state;
    cdl_buf b = { 0 };
    list(&b, "{'type':'TemplateProcessing','pair':[],'special_tokens':{},'single':[",
            "{'Sequence':{'id':'A','type_id':0}}", 256, "]}");
    try_part("the text 256 times", "post_processor", b.data, ANY);
    cdl_buf_free(&b);
    list(&b, "{'type':'TemplateProcessing','pair':[],'single':[", "{'SpecialToken':{'id':'x','type_id':0}}", 256,
            "],'special_tokens':{'x':{'id':'x',");
    list(&b, "'ids':[", "0", 100000, "],");
    list(&b, "'tokens':[", "'x'", 100000, "]}}}");
    try_part("25 million special tokens", "post_processor", b.data, REFUSED);
    cdl_buf_free(&b);
    list(&b, "{'type':'TemplateProcessing','pair':[],'single':[", "{'SpecialToken':{'id':'x','type_id':0}}", 256,
            "],'special_tokens':{'x':{'id':'x','ids':[0],'tokens':['");
    repeat(&b, "x", 1 << 20);
    repeat(&b, "']}}}", 1);
    try_part("256 special tokens of 1 MB", "post_processor", b.data, ANY);
    cdl_buf_free(&b);
}

static void test_ids_and_depth(void **state)
{
    (void)state;
    cdl_buf b = { 0 };
    static const char *const ids[] = { "2147483648", "4294967296", "-1", "1e300", "2147483647", "9223372036854775807" };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        assert_int_equal(cdl_buf_printf(&b, "{'model':{'type':'WordLevel','unk_token':'a','vocab':{'a':%s}}}", ids[i]),
                CUDDLE_OK);
        try_file(ids[i], &b, REFUSED);
    }
    repeat(&b, "{'model':{'type':'WordLevel','unk_token':'a','vocab':{'a':2097151}}}", 1);
    try_file("id 2097151", &b, ENCODES);
    static const char *const keys[] = { "normalizer", "decoder", "model", "added_tokens", "anything" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        assert_int_equal(cdl_buf_printf(&b, "{'%s':", keys[i]), CUDDLE_OK);
        repeat(&b, "[", 1 << 20);
        try_file(keys[i], &b, REFUSED);
    }
    cdl_buf deep = { 0 };
    repeat(&deep, "{'type':'Sequence','normalizers':[", 10000);
    try_part("10000 Sequences", "normalizer", deep.data, REFUSED);
    cdl_buf_free(&deep);
    list(&deep, "[", "0", 1 << 22, "]");
    try_part("4 million numbers for a normalizer", "normalizer", deep.data, REFUSED);
    cdl_buf_free(&deep);
}

static void test_charsmaps(void **state)
{
    (void)state;
    try_part("an empty map", "normalizer", "{'type':'Precompiled','precompiled_charsmap':''}", REFUSED);
    try_part("no base64", "normalizer", "{'type':'Precompiled','precompiled_charsmap':'%%%%'}", REFUSED);
    try_part("a trie of 4 GB", "normalizer", "{'type':'Precompiled','precompiled_charsmap':'/P///wAAAAA='}", REFUSED);
    try_part("a trie of ones", "normalizer", "{'type':'Precompiled','precompiled_charsmap':'CAAAAP////////////8='}",
            ANY);
}

static void test_patterns(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "(a+)+$", "(a|a)*b", "(a|aa)+$", "(?:a?){1000}a{1000}", "((a{1000}){1000}){1000}", "(.*)*x", "(?:(?:a*)*)*b",
        "(a*)*\\\\1b", "(?<x>a|b\\\\g<x>c)*d", "[[[[[[[[a]]]]]]]]{100000}", "(?=(a+))\\\\1*b", "a{0,100000}b",
        "(?:a{0,999}){0,999}b",
    };
    text_n = 4096; /* most are quadratic */
    memcpy(text + text_n - 2, "b!", 2);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        cdl_buf b = { 0 };
        list(&b, "{'type':'Split','behavior':'Isolated','invert':false,'pattern':{'Regex':'", patterns[i], 1, "'}}");
        try_part(patterns[i], "pre_tokenizer", b.data, ANY);
        cdl_buf_free(&b);
    }
    memset(text, 'a', text_n);
    text_n = sizeof text;
}

static void test_decoders_that_grow(void **state)
{
    (void)state;
    try_sequence("64 x a -> aa", "decoder", "decoders", "{'type':'Replace','pattern':{'String':'a'},'content':'aa'}",
            64, ENCODES);
    try_sequence("64 x a space between", "decoder", "decoders", "{'type':'BPEDecoder','suffix':''}", 64, ENCODES);
    try_sequence("64 x Metaspace", "decoder", "decoders",
            "{'type':'Metaspace','replacement':'a','prepend_scheme':'never'}", 64, ENCODES);
}

int main(void)
{
    memset(text, 'a', sizeof text);
#ifndef __SANITIZE_ADDRESS__ /* its shadow is terabytes */
    struct rlimit limit = { 1000000000, 1000000000 };
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return 1;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_that_grow), cmocka_unit_test(test_added_tokens_that_grow),
        cmocka_unit_test(test_tokens_that_grow), cmocka_unit_test(test_many_parts), cmocka_unit_test(test_templates),
        cmocka_unit_test(test_ids_and_depth), cmocka_unit_test(test_charsmaps), cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_decoders_that_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
