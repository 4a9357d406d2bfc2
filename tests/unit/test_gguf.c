/* GGUF files, good and broken, byte by byte; and what the writer writes. */
#include "torture.h"

#include "base/buf.h"
#include "format/gguf_write.h"
#include "unit/folder.h"

/* ---- A file by hand ---- */

typedef struct {
    cdl_buf b;
} image;

static void bytes(image *g, const void *p, size_t n)
{
    must(cdl_buf_append(&g->b, p, n));
}

static void u32(image *g, uint32_t v)
{
    bytes(g, &v, 4);
}

static void u64(image *g, uint64_t v)
{
    bytes(g, &v, 8);
}

static void text(image *g, const char *s)
{
    u64(g, strlen(s));
    bytes(g, s, strlen(s));
}

static void start(image *g, uint32_t version, uint64_t tensors, uint64_t pairs)
{
    bytes(g, "GGUF", 4);
    u32(g, version);
    u64(g, tensors);
    u64(g, pairs);
}

static void pair_text(image *g, const char *key, const char *value)
{
    text(g, key);
    u32(g, CDL_GGUF_STRING);
    text(g, value);
}

static void pair_u32(image *g, const char *key, uint32_t value)
{
    text(g, key);
    u32(g, CDL_GGUF_U32);
    u32(g, value);
}

static void tensor(image *g, const char *name, uint64_t cols, uint64_t rows, uint32_t type, uint64_t offset)
{
    text(g, name);
    u32(g, 2);
    u64(g, cols);
    u64(g, rows);
    u32(g, type);
    u64(g, offset);
}

static void data(image *g, size_t n)
{
    while (g->b.len % 32)
        must(cdl_buf_putc(&g->b, 0));
    for (size_t i = 0; i < n; i++)
        must(cdl_buf_putc(&g->b, (char)i));
}

static cuddle_status open_image(image *g, const char *name, cdl_checkpoint **c)
{
    tiny_write(folder, name, g->b.data, g->b.len);
    cdl_buf_free(&g->b);
    return cdl_checkpoint_open(c, tiny_path(folder, name), false);
}

/* It must fail, with one line that names the file and holds all of the words. */
static void refuse_at(const char *path, cuddle_status want, const char *words)
{
    cdl_checkpoint *c;
    cuddle_status st = cdl_checkpoint_open(&c, path, false);
    char copy[256], *save;
    snprintf(copy, sizeof copy, "%s", words);
    assert_true(st != CUDDLE_OK);
    const char *line = cuddle_errmsg();
    if (st != want || strchr(line, '\n') || !strstr(line, folder))
        fail_msg("%s: %s", cuddle_status_name(st), line);
    for (char *word = strtok_r(copy, "|", &save); word; word = strtok_r(NULL, "|", &save))
        if (!strstr(line, word))
            fail_msg("'%s' is not in: %s", word, line);
}

static void refuse(image *g, cuddle_status want, const char *words)
{
    tiny_write(folder, "bad.gguf", g->b.data, g->b.len);
    cdl_buf_free(&g->b);
    refuse_at(tiny_path(folder, "bad.gguf"), want, words);
}

/* ---- Good ones ---- */

static void test_both_versions_and_all_value_types(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        image g = { 0 };
        cdl_checkpoint *c;
        start(&g, version, 1, 14);
        pair_text(&g, "general.architecture", "llama");
        for (uint32_t type = 0; type < CDL_GGUF_TYPES; type++) {
            static const uint8_t size[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
            char key[16];
            uint64_t minus_two = type == CDL_GGUF_F32 ? 0xc0000000u : type == CDL_GGUF_F64 ? 0xc000000000000000u
                    : (uint64_t)-2;
            snprintf(key, sizeof key, "t%u", type);
            text(&g, key);
            u32(&g, type);
            if (type == CDL_GGUF_STRING) {
                text(&g, "a\"b");
            } else if (type == CDL_GGUF_ARRAY) {
                u32(&g, CDL_GGUF_STRING);
                u64(&g, 2);
                text(&g, "x");
                text(&g, "");
            } else {
                bytes(&g, &minus_two, size[type]);
            }
        }
        tensor(&g, "blk.3.attn_q.weight", 32, 2, 2, 0);
        data(&g, 36);
        must(open_image(&g, "good.gguf", &c));
        const cdl_json *m = cdl_checkpoint_gguf(c);
        assert_int_equal(cdl_json_int(cdl_json_get(m, "t0"), 0), 254);
        assert_int_equal(cdl_json_int(cdl_json_get(m, "t1"), 0), -2);
        assert_int_equal(cdl_json_int(cdl_json_get(m, "t2"), 0), 65534);
        assert_int_equal(cdl_json_int(cdl_json_get(m, "t3"), 0), -2);
        assert_true(cdl_json_int(cdl_json_get(m, "t4"), 0) == 4294967294);
        assert_int_equal(cdl_json_int(cdl_json_get(m, "t5"), 0), -2);
        assert_true(cdl_json_double(cdl_json_get(m, "t6"), 0) == -2.0);
        assert_true(cdl_json_bool(cdl_json_get(m, "t7"), false));
        assert_string_equal(cdl_json_string(cdl_json_get(m, "t8"), ""), "a\"b");
        assert_int_equal(cdl_json_len(cdl_json_get(m, "t9")), 2);
        assert_int_equal(cdl_json_int(cdl_json_get(m, "t11"), 0), -2);
        assert_true(cdl_json_double(cdl_json_get(m, "t12"), 0) == -2.0);
        cdl_gguf_array a;
        assert_true(cdl_checkpoint_gguf_array(c, "t9", &a) && a.strings && a.n == 2);
        assert_false(cdl_checkpoint_gguf_array(c, "t8", &a));
        const cdl_tensor_entry *t = cdl_checkpoint_find(c, "model.layers.3.self_attn.q_proj.weight");
        assert_non_null(t);
        assert_int_equal(t->dim[0], 2);
        assert_int_equal(t->dim[1], 32);
        assert_int_equal(t->bytes, 36);
        assert_int_equal(t->data[35], 35);
        cdl_checkpoint_close(c);
    }
}

static void test_the_writer_is_read_back(void **state)
{
    (void)state;
    cdl_gguf_writer w = { 0 };
    cdl_gguf_item items[] = { { .name = "output_norm.weight", .dtype = CDL_DTYPE_F32, .ndim = 1, .dim = { 3 } },
                              { .name = "token_embd.weight", .dtype = CDL_DTYPE_Q8_0, .ndim = 2, .dim = { 5, 64 } } };
    int32_t numbers[100];
    for (int i = 0; i < 100; i++)
        numbers[i] = -i;
    cdl_gguf_put_string(&w, "general.architecture", "llama", 5);
    cdl_gguf_put_u32(&w, "u", 4000000000u);
    cdl_gguf_put_f32(&w, "f", 0.5f);
    cdl_gguf_put_bool(&w, "b", true);
    cdl_gguf_put_array(&w, "long", CDL_GGUF_I32, 100, numbers, sizeof numbers);
    cdl_gguf_put_array(&w, "strings", CDL_GGUF_STRING, 2, NULL, 0);
    cdl_gguf_item_string(&w, "one", 3);
    cdl_gguf_item_string(&w, "", 0);
    must(cdl_gguf_create(&w, tiny_path(folder, "out.gguf"), items, 2));
    assert_int_equal((uintptr_t)items[1].data % CDL_GGUF_ALIGNMENT, 0);
    memset(items[0].data, 1, items[0].bytes);
    memset(items[1].data, 2, items[1].bytes);
    assert_true(access(tiny_path(folder, "out.gguf"), F_OK) != 0); /* not before it is complete */
    must(cdl_gguf_finish(&w));
    cdl_gguf_abandon(&w);
    cdl_checkpoint *c;
    must(cdl_checkpoint_open(&c, tiny_path(folder, "out.gguf"), false));
    const cdl_json *m = cdl_checkpoint_gguf(c);
    cdl_gguf_array a;
    assert_true(cdl_json_int(cdl_json_get(m, "u"), 0) == 4000000000);
    assert_true(cdl_json_double(cdl_json_get(m, "f"), 0) == 0.5);
    assert_true(cdl_checkpoint_gguf_array(c, "long", &a) && a.n == 100 && a.type == CDL_DTYPE_I32);
    assert_memory_equal(a.data, numbers, sizeof numbers);
    assert_true(cdl_checkpoint_gguf_array(c, "strings", &a) && a.strings && a.n == 2);
    const cdl_tensor_entry *t = cdl_checkpoint_find(c, "model.embed_tokens.weight");
    assert_non_null(t);
    assert_int_equal(t->bytes, 5 * 68);
    assert_int_equal(t->data[0], 2);
    assert_int_equal(tiny_count(folder), 1);
    cdl_checkpoint_close(c);
}

static void test_an_abandoned_file_is_gone(void **state)
{
    (void)state;
    cdl_gguf_writer w = { 0 };
    cdl_gguf_item item = { .name = "x", .dtype = CDL_DTYPE_F32, .ndim = 1, .dim = { 8 } };
    cdl_gguf_put_u32(&w, "u", 1);
    must(cdl_gguf_create(&w, tiny_path(folder, "out.gguf"), &item, 1));
    cdl_gguf_abandon(&w);
    assert_int_equal(tiny_count(folder), 0);
    w = (cdl_gguf_writer){ 0 };
    item.dtype = CDL_DTYPE_Q4_0; /* 8 is no block */
    assert_int_equal(cdl_gguf_create(&w, tiny_path(folder, "out.gguf"), &item, 1), CUDDLE_ERR_ARG);
    cdl_gguf_abandon(&w);
    item = (cdl_gguf_item){ .name = "x", .dtype = CDL_DTYPE_F32, .ndim = 2, .dim = { UINT64_MAX / 4, 8 } };
    assert_int_equal(cdl_gguf_create(&w, tiny_path(folder, "out.gguf"), &item, 1), CUDDLE_ERR_ARG);
    cdl_gguf_abandon(&w);
}

static void part(const char *name, uint32_t no, uint32_t count, const char *tensor_name)
{
    image g = { 0 };
    start(&g, 3, 1, 3);
    pair_text(&g, "general.architecture", "llama");
    pair_u32(&g, "split.no", no);
    pair_u32(&g, "split.count", count);
    tensor(&g, tensor_name, 8, 2, 0, 0);
    data(&g, 64);
    tiny_write(folder, name, g.b.data, g.b.len);
    cdl_buf_free(&g.b);
}

static void test_split_files_are_one(void **state)
{
    (void)state;
    cdl_checkpoint *c;
    part("m-00001-of-00003.gguf", 0, 3, "token_embd.weight");
    part("m-00002-of-00003.gguf", 1, 3, "blk.0.attn_q.weight");
    part("m-00003-of-00003.gguf", 2, 3, "blk.1.attn_q.weight");
    must(cdl_checkpoint_open(&c, tiny_path(folder, "m-00001-of-00003.gguf"), false));
    assert_int_equal(cdl_checkpoint_count(c), 3);
    assert_int_equal(cdl_checkpoint_find(c, "model.layers.1.self_attn.q_proj.weight")->file, 2);
    cdl_checkpoint_close(c);
    must(cdl_checkpoint_open(&c, folder, false)); /* the folder's one model */
    assert_int_equal(cdl_checkpoint_count(c), 3);
    cdl_checkpoint_close(c);
}

static void test_split_files_that_do_not_fit(void **state)
{
    (void)state;
    part("m-00001-of-00002.gguf", 0, 2, "token_embd.weight");
    const char *first = tiny_path(folder, "m-00001-of-00002.gguf");
    refuse_at(first, CUDDLE_ERR_NOTFOUND, "m-00002-of-00002.gguf");
    part("m-00002-of-00002.gguf", 0, 2, "blk.0.attn_q.weight");
    refuse_at(first, CUDDLE_ERR_FORMAT, "m-00002-of-00002.gguf|split.no 0");
    part("m-00002-of-00002.gguf", 1, 3, "blk.0.attn_q.weight");
    refuse_at(first, CUDDLE_ERR_FORMAT, "split.count 3");
    part("m-00002-of-00002.gguf", 1, 2, "token_embd.weight");
    refuse_at(first, CUDDLE_ERR_FORMAT, "model.embed_tokens.weight|twice");
    part("m-00002-of-00002.gguf", 1, 2, "blk.0.attn_q.weight");
    refuse_at(tiny_path(folder, "m-00002-of-00002.gguf"), CUDDLE_ERR_ARG, "name the first part");
    part("other.gguf", 0, 2, "token_embd.weight");
    refuse_at(tiny_path(folder, "other.gguf"), CUDDLE_ERR_ARG, "00001-of-00002");
    part("m-00001-of-00002.gguf", 0, UINT32_MAX, "token_embd.weight");
    refuse_at(first, CUDDLE_ERR_ARG, "4294967295");
}

/* ---- Broken ones ---- */

static void test_headers_that_are_none(void **state)
{
    (void)state;
    image g = { 0 };
    bytes(&g, "GGU", 3);
    refuse(&g, CUDDLE_ERR_FORMAT, "cut short");
    bytes(&g, "GGML aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 32);
    refuse(&g, CUDDLE_ERR_FORMAT, "no GGUF file");
    start(&g, 1, 0, 0);
    refuse(&g, CUDDLE_ERR_UNSUPPORTED, "version 1");
    start(&g, 0x03000000, 0, 0);
    refuse(&g, CUDDLE_ERR_UNSUPPORTED, "big-endian");
    tiny_write(folder, "bad.gguf", "", 0);
    refuse_at(tiny_path(folder, "bad.gguf"), CUDDLE_ERR_FORMAT, "0 bytes");
}

static void test_counts_and_lengths_of_2_to_the_63(void **state)
{
    (void)state;
    static const uint64_t huge[] = { 1ull << 63, UINT64_MAX, UINT64_MAX / 8 + 1, 1ull << 40 };
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        image g = { 0 };
        start(&g, 3, huge[i], 0);
        refuse(&g, CUDDLE_ERR_FORMAT, "tensor 0|end");
        start(&g, 3, 0, huge[i]);
        refuse(&g, CUDDLE_ERR_FORMAT, "metadata key 0|end");
        start(&g, 3, 0, 1);
        u64(&g, huge[i]);
        refuse(&g, CUDDLE_ERR_FORMAT, "metadata key 0");
        start(&g, 3, 0, 1);
        text(&g, "general.name");
        u32(&g, CDL_GGUF_STRING);
        u64(&g, huge[i]);
        refuse(&g, CUDDLE_ERR_FORMAT, "key general.name");
        for (uint32_t type = 0; type < CDL_GGUF_TYPES; type++) {
            start(&g, 3, 0, 1);
            text(&g, "a.list");
            u32(&g, CDL_GGUF_ARRAY);
            u32(&g, type);
            u64(&g, huge[i]);
            refuse(&g, CUDDLE_ERR_FORMAT, "key a.list");
        }
        start(&g, 3, 1, 0);
        tensor(&g, "w.weight", huge[i], 1, 0, 0);
        refuse(&g, CUDDLE_ERR_FORMAT, "tensor w.weight");
        start(&g, 3, 1, 0);
        tensor(&g, "w.weight", 4, huge[i], 0, 0);
        refuse(&g, CUDDLE_ERR_FORMAT, "tensor w.weight");
        start(&g, 3, 1, 0);
        tensor(&g, "w.weight", 4, 4, 0, huge[i] & ~31ull);
        refuse(&g, CUDDLE_ERR_FORMAT, "tensor w.weight|past the end");
    }
}

static void test_metadata_of_unknown_form(void **state)
{
    (void)state;
    image g = { 0 };
    start(&g, 3, 0, 1);
    text(&g, "k");
    u32(&g, 99);
    u64(&g, 0);
    refuse(&g, CUDDLE_ERR_FORMAT, "key k|unknown type");
    start(&g, 3, 0, 1);
    text(&g, "k");
    u32(&g, CDL_GGUF_ARRAY);
    u32(&g, CDL_GGUF_ARRAY);
    u64(&g, 1);
    refuse(&g, CUDDLE_ERR_FORMAT, "key k|unknown type");
    start(&g, 3, 0, 2);
    pair_u32(&g, "k", 1);
    pair_u32(&g, "k", 1);
    refuse(&g, CUDDLE_ERR_FORMAT, "k");
    start(&g, 3, 0, 1);
    pair_u32(&g, "general.alignment", 48);
    refuse(&g, CUDDLE_ERR_FORMAT, "general.alignment 48");
    start(&g, 3, 0, 1);
    pair_u32(&g, "general.alignment", 0);
    refuse(&g, CUDDLE_ERR_FORMAT, "general.alignment 0");
    start(&g, 3, 0, 3);
    pair_text(&g, "general.architecture", "llama");
    text(&g, "llama.attention.head_count_kv");
    u32(&g, CDL_GGUF_ARRAY);
    u32(&g, CDL_GGUF_I32);
    u64(&g, 2);
    u32(&g, 4);
    u32(&g, 2);
    pair_u32(&g, "llama.block_count", 2);
    refuse(&g, CUDDLE_ERR_UNSUPPORTED, "llama.attention.head_count_kv differs");
}

static void test_metadata_without_end(void **state)
{
    (void)state;
    image g = { 0 };
    size_t n = 17 << 20;
    char *long_text = malloc(n + 1);
    memset(long_text, 'x', n);
    long_text[n] = 0;
    start(&g, 3, 0, 1);
    pair_text(&g, "general.name", long_text);
    free(long_text);
    refuse(&g, CUDDLE_ERR_UNSUPPORTED, "general.name|16 MiB");
}

static void test_tensors_that_cannot_be(void **state)
{
    (void)state;
    image g = { 0 };
    start(&g, 3, 1, 0);
    tensor(&g, "w.weight", 32, 2, 5, 0); /* a type that ggml has dropped */
    data(&g, 256);
    refuse(&g, CUDDLE_ERR_UNSUPPORTED, "tensor w.weight|unknown type 5");
    start(&g, 3, 1, 0);
    tensor(&g, "w.weight", 33, 2, 2, 0);
    data(&g, 256);
    refuse(&g, CUDDLE_ERR_FORMAT, "tensor w.weight|whole blocks");
    start(&g, 3, 1, 0);
    tensor(&g, "w.weight", 0, 2, 0, 0);
    data(&g, 256);
    refuse(&g, CUDDLE_ERR_FORMAT, "tensor w.weight|shape");
    start(&g, 3, 1, 0);
    tensor(&g, "w.weight", 32, 2, 0, 8);
    data(&g, 1024);
    refuse(&g, CUDDLE_ERR_FORMAT, "tensor w.weight|aligned");
    start(&g, 3, 1, 0);
    tensor(&g, "", 32, 2, 0, 0);
    data(&g, 1024);
    refuse(&g, CUDDLE_ERR_FORMAT, "proper name");
    start(&g, 3, 1, 0);
    text(&g, "w.weight");
    u32(&g, 9);
    data(&g, 1024);
    refuse(&g, CUDDLE_ERR_FORMAT, "tensor w.weight|dimensions");
    start(&g, 3, 2, 0);
    tensor(&g, "w.weight", 8, 2, 0, 0);
    tensor(&g, "w.weight", 8, 2, 0, 64);
    data(&g, 1024);
    refuse(&g, CUDDLE_ERR_FORMAT, "w.weight|twice");
    start(&g, 3, 2, 0);
    tensor(&g, "v.weight", 16, 2, 0, 0);
    tensor(&g, "w.weight", 16, 2, 0, 96);
    data(&g, 1024);
    refuse(&g, CUDDLE_ERR_FORMAT, "w.weight|overlap");
}

static cuddle_status open_once(void *user)
{
    cdl_checkpoint *c;
    CDL_TRY(cdl_checkpoint_open(&c, user, false));
    cdl_checkpoint_close(c);
    return CUDDLE_OK;
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    part("m-00001-of-00002.gguf", 0, 2, "token_embd.weight");
    part("m-00002-of-00002.gguf", 1, 2, "blk.0.attn_q.weight");
    char path[512];
    snprintf(path, sizeof path, "%s", tiny_path(folder, "m-00001-of-00002.gguf"));
    assert_true(torture(open_once, path, false, 1) > 5);
    torture(open_once, path, true, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_both_versions_and_all_value_types), TEST(test_the_writer_is_read_back),
                TEST(test_an_abandoned_file_is_gone),
        TEST(test_split_files_are_one), TEST(test_split_files_that_do_not_fit), TEST(test_headers_that_are_none),
        TEST(test_counts_and_lengths_of_2_to_the_63), TEST(test_metadata_of_unknown_form),
                TEST(test_metadata_without_end),
        TEST(test_tensors_that_cannot_be), TEST(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
