/* safetensors, single and sharded, good and broken; and what the writer writes. */
#include "torture.h"

#include "unit/folder.h"

/* A file of this header and n bytes of data. */
static void put(const char *name, const char *header, size_t n)
{
    char image[4096];
    uint64_t length = strlen(header);
    memcpy(image, &length, 8);
    memcpy(image + 8, header, length);
    for (size_t i = 0; i < n; i++)
        image[8 + length + i] = (char)i;
    tiny_write(folder, name, image, 8 + length + n);
}

/* It must fail with one line that names the folder's file and holds the words. */
static void refuse_at(const char *path, cuddle_status want, const char *words)
{
    cdl_checkpoint *c;
    char copy[256], *save;
    cuddle_status st = cdl_checkpoint_open(&c, path, false);
    snprintf(copy, sizeof copy, "%s", words);
    const char *line = cuddle_errmsg();
    assert_true(st != CUDDLE_OK);
    if (st != want || strchr(line, '\n') || !strstr(line, folder))
        fail_msg("%s: %s", cuddle_status_name(st), line);
    for (char *word = strtok_r(copy, "|", &save); word; word = strtok_r(NULL, "|", &save))
        if (!strstr(line, word))
            fail_msg("'%s' is not in: %s", word, line);
}

#define W(shape, begin, end) "\"w\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
#define V(begin, end) "\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" begin "," end "]}"

static void test_tensors_in_any_order(void **state)
{
    (void)state;
    cdl_checkpoint *c;
    put("model.safetensors", "{\"__metadata__\":{\"format\":\"pt\"}," W("[1,2]", "8", "16") "," V("0", "8")
            ",\"empty\":{\"dtype\":\"I64\",\"shape\":[0,4],\"data_offsets\":[8,8]},"
            "\"one\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[16,18]}}", 18);
    must(cdl_checkpoint_open(&c, folder, false));
    assert_int_equal(cdl_checkpoint_count(c), 4);
    const cdl_tensor_entry *w = cdl_checkpoint_find(c, "w"), *one = cdl_checkpoint_find(c, "one");
    assert_int_equal(w->data[0], 8);
    assert_int_equal(w->ndim, 2);
    assert_int_equal(w->dim[1], 2);
    assert_int_equal(one->ndim, 0);
    assert_int_equal(one->data[1], 17);
    assert_int_equal(cdl_checkpoint_find(c, "empty")->bytes, 0);
    assert_null(cdl_checkpoint_find(c, "nothing"));
    cdl_checkpoint_close(c);
}

static void test_headers_that_are_broken(void **state)
{
    (void)state;
    static const struct { const char *header; size_t data; cuddle_status status; const char *words; } cases[] = {
        { "{" W("[2]", "0", "8") "," W("[2]", "8", "16") "}", 16, CUDDLE_ERR_FORMAT, "model.safetensors|w" },
        { "{" W("[2]", "0", "8") "}", 7, CUDDLE_ERR_FORMAT, "tensor w|outside the file" },
        { "{" W("[2]", "0", "8") "}", 9, CUDDLE_ERR_FORMAT, "1 bytes behind the last tensor" },
        { "{" W("[2]", "8", "16") "," V("4", "12") "}", 16, CUDDLE_ERR_FORMAT, "tensor v|hole" },
        { "{" W("[2]", "4", "12") "," V("0", "8") "}", 12, CUDDLE_ERR_FORMAT, "tensor w|overlaps" },
        { "{" W("[3]", "0", "8") "}", 8, CUDDLE_ERR_FORMAT, "tensor w|fit the shape" },
        { "{" W("[2]", "8", "0") "}", 8, CUDDLE_ERR_FORMAT, "tensor w|outside" },
        { "{" W("[9223372036854775807]", "0", "8") "}", 8, CUDDLE_ERR_FORMAT, "tensor w|impossible shape" },
        { "{" W("[4294967296,4294967296]", "0", "8") "}", 8, CUDDLE_ERR_FORMAT, "tensor w|impossible shape" },
        { "{" W("[-2]", "0", "8") "}", 8, CUDDLE_ERR_FORMAT, "tensor w|impossible shape" },
        { "{" W("[2.5]", "0", "8") "}", 8, CUDDLE_ERR_FORMAT, "tensor w|impossible shape" },
        { "{" W("[1,1,1,1,1,1,1,1,2]", "0", "8") "}", 8, CUDDLE_ERR_FORMAT, "tensor w|8 dimensions" },
        { "{" W("[2]", "0", "18446744073709551615") "}", 8, CUDDLE_ERR_FORMAT, "tensor w|outside" },
        { "{" W("[2]", "9223372036854775808", "8") "}", 8, CUDDLE_ERR_FORMAT, "tensor w|outside" },
        { "{\"w\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, CUDDLE_ERR_UNSUPPORTED,
                "tensor w|F33" },
        { "{\"w\":{\"dtype\":5,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, CUDDLE_ERR_FORMAT, "tensor w|dtype" },
        { "{\"w\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, CUDDLE_ERR_FORMAT, "tensor w|shape" },
        { "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8, CUDDLE_ERR_FORMAT,
                "tensor w|data_offsets" },
        { "{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, CUDDLE_ERR_FORMAT, "tensor w|missing" },
        { "{\"w\":7}", 8, CUDDLE_ERR_FORMAT, "tensor w" },
        { "[1,2]", 0, CUDDLE_ERR_FORMAT, "no JSON object" },
        { "{\"w\":", 0, CUDDLE_ERR_FORMAT, "model.safetensors" },
        { "{} x", 0, CUDDLE_ERR_FORMAT, "model.safetensors" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("model.safetensors", cases[i].header, cases[i].data);
        refuse_at(folder, cases[i].status, cases[i].words);
    }
}

static void test_header_lengths_that_lie(void **state)
{
    (void)state;
    static const uint64_t lengths[] = { 0, 3, 1ull << 63, UINT64_MAX, 101ull << 20 };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char image[10] = { 0 };
        memcpy(image, &lengths[i], 8);
        tiny_write(folder, "model.safetensors", image, sizeof image);
        refuse_at(folder, CUDDLE_ERR_FORMAT, "model.safetensors|header of");
    }
    tiny_write(folder, "model.safetensors", "abc", 3);
    refuse_at(folder, CUDDLE_ERR_FORMAT, "3 bytes");
}

/* ---- Shards ---- */

#define INDEX(w, v) "{\"metadata\":{\"total_size\":16},\"weight_map\":{\"w\":" w ",\"v\":" v "}}"

static void put_shards(const char *index)
{
    put("a.safetensors", "{" W("[2]", "0", "8") "}", 8);
    put("b.safetensors", "{" V("0", "8") "}", 8);
    tiny_write_text(folder, "model.safetensors.index.json", index);
}

static void test_shards_are_one(void **state)
{
    (void)state;
    cdl_checkpoint *c;
    put_shards(INDEX("\"a.safetensors\"", "\"b.safetensors\""));
    must(cdl_checkpoint_open(&c, folder, false));
    assert_int_equal(cdl_checkpoint_count(c), 2);
    assert_int_equal(cdl_checkpoint_find(c, "v")->file, 1);
    cdl_checkpoint_close(c);
    must(cdl_checkpoint_open(&c, tiny_path(folder, "model.safetensors.index.json"), false));
    cdl_checkpoint_close(c);
}

static void test_shards_that_do_not_fit(void **state)
{
    (void)state;
    static const struct { const char *index; cuddle_status status; const char *words; } cases[] = {
        { INDEX("\"a.safetensors\"", "\"c.safetensors\""), CUDDLE_ERR_NOTFOUND, "c.safetensors" },
        { INDEX("\"a.safetensors\"", "\"a.safetensors\""), CUDDLE_ERR_FORMAT, "tensor v is not in a.safetensors" },
        { INDEX("\"b.safetensors\"", "\"a.safetensors\""), CUDDLE_ERR_FORMAT, "tensor w is not in b.safetensors" },
        { INDEX("\"../a.safetensors\"", "\"b.safetensors\""), CUDDLE_ERR_FORMAT, "weight_map: w" },
        { INDEX("\"/etc/passwd\"", "\"b.safetensors\""), CUDDLE_ERR_FORMAT, "weight_map: w" },
        { INDEX("7", "\"b.safetensors\""), CUDDLE_ERR_FORMAT, "weight_map: w" },
        { INDEX("\"\"", "\"b.safetensors\""), CUDDLE_ERR_FORMAT, "weight_map: w" },
        { "{\"weight_map\":[]}", CUDDLE_ERR_FORMAT, "no weight_map" },
        { "{}", CUDDLE_ERR_FORMAT, "no weight_map" },
        { "{\"weight_map\":", CUDDLE_ERR_FORMAT, "index.json" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_shards(cases[i].index);
        refuse_at(folder, cases[i].status, cases[i].words);
    }
    put_shards(INDEX("\"a.safetensors\"", "\"b.safetensors\""));
    put("b.safetensors", "{" V("0", "8") "," W("[2]", "8", "16") "}", 16);
    refuse_at(folder, CUDDLE_ERR_FORMAT, "tensor w is there twice");
}

/* ---- Out ---- */

static void test_the_writer_is_read_back(void **state)
{
    (void)state;
    cdl_safetensors_item items[] = { { "a \"quoted\" name", CDL_DTYPE_F32, 2, { 2, 3 }, NULL },
                                     { "b", CDL_DTYPE_I64, 1, { 1 }, NULL } };
    cdl_safetensors_writer w;
    cdl_checkpoint *c;
    must(cdl_safetensors_create(&w, tiny_path(folder, "out.safetensors"), items, 2));
    assert_true(access(tiny_path(folder, "out.safetensors"), F_OK) != 0);
    memset(items[0].data, 1, 24);
    memset(items[1].data, 2, 8);
    must(cdl_safetensors_finish(&w));
    must(cdl_checkpoint_open(&c, tiny_path(folder, "out.safetensors"), false));
    const cdl_tensor_entry *a = cdl_checkpoint_find(c, "a \"quoted\" name"), *b = cdl_checkpoint_find(c, "b");
    assert_int_equal(a->bytes, 24);
    assert_int_equal(a->data[23], 1);
    assert_int_equal(b->data[0], 2);
    cdl_checkpoint_close(c);
    must(cdl_safetensors_create(&w, tiny_path(folder, "gone.safetensors"), items, 2));
    cdl_safetensors_abandon(&w);
    assert_int_equal(tiny_count(folder), 1);
    assert_int_equal(cdl_safetensors_create(&w, tiny_path(folder, "no/such/x"), items, 2), CUDDLE_ERR_IO);
    items[0].dim[0] = UINT64_MAX / 2;
    assert_int_equal(cdl_safetensors_create(&w, tiny_path(folder, "x"), items, 2), CUDDLE_ERR_FULL);
    assert_int_equal(tiny_count(folder), 1);
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
    put_shards(INDEX("\"a.safetensors\"", "\"b.safetensors\""));
    tiny_write_text(folder, "config.json", "{\"model_type\":\"llama\",\"eos_token_id\":[1,2]}");
    tiny_write_text(folder, "generation_config.json", "{\"temperature\":0.5}");
    assert_true(torture(open_once, folder, false, 1) > 5);
    torture(open_once, folder, true, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_tensors_in_any_order), TEST(test_headers_that_are_broken), TEST(test_header_lengths_that_lie),
        TEST(test_shards_are_one), TEST(test_shards_that_do_not_fit), TEST(test_the_writer_is_read_back),
        TEST(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
