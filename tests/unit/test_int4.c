/* GPTQ's and AWQ's tensors as weights: every code, zero and scale where the formats have them, in every type that holds
 * them; what is refused. */
#include "torture.h"

#include "base/half.h"
#include "base/map.h"
#include "format/int4.h"
#include "format/safetensors_write.h"
#include "unit/folder.h"

enum { ROWS = 24, COLS = 256 };

#define GPTQ "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}"
#define GPTQ2 "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"gptq_v2\"}}"
#define AWQ "{\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":4,\"version\":\"gemm\"}}"

/* One quantised matrix m of [ROWS, COLS]. */
typedef struct {
    const char *config;
    uint32_t group;
    bool awq, even, order;     /* even: all zeros are 8; order: a column's group is another's */
} quantised;

static uint32_t random_word(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed ^ *seed >> 16;
}

static bool plus_one(const quantised *k)
{
    return !k->awq && strcmp(k->config, GPTQ2);
}

static uint32_t group_of(const quantised *k, uint32_t col)
{
    return k->order ? col % (COLS / k->group) : col / k->group;
}

enum { ITEMS = 4 };

static void list_items(cdl_safetensors_item *items, const quantised *k)
{
    uint64_t groups = COLS / k->group;
    const cdl_safetensors_item all[ITEMS] = {
        { "m.qweight", CDL_DTYPE_I32, 2, { k->awq ? COLS : COLS / 8, k->awq ? ROWS / 8 : ROWS }, NULL },
        { "m.qzeros", CDL_DTYPE_I32, 2, { groups, ROWS / 8 }, NULL },
        { "m.scales", CDL_DTYPE_F16, 2, { groups, ROWS }, NULL },
        { "m.g_idx", CDL_DTYPE_I32, 1, { COLS }, NULL },
    };
    memcpy(items, all, sizeof all);
}

static void fill(const quantised *k, cdl_safetensors_item *items, size_t n)
{
    uint32_t seed = k->group, groups = COLS / k->group;
    for (size_t at = 0; at < n; at++) {
        const cdl_safetensors_item *t = &items[at];
        uint64_t elements = t->dim[0] * (t->ndim == 2 ? t->dim[1] : 1);
        for (uint32_t i = 0; i < elements; i++) {
            uint32_t word = random_word(&seed);
            if (!strcmp(t->name, "m.g_idx"))
                word = group_of(k, i) % groups;
            else if (!strcmp(t->name, "m.qzeros") && k->even)
                word = plus_one(k) ? 0x77777777 : 0x88888888;
            if (t->dtype == CDL_DTYPE_F16)
                ((uint16_t *)t->data)[i] = cdl_f16_from_f32(0.01f + (float)(word % 100) / 1000);
            else
                ((uint32_t *)t->data)[i] = word;
        }
    }
}

static void write_items(const quantised *k, cdl_safetensors_item *items, size_t n)
{
    cdl_safetensors_writer w;
    must(cdl_safetensors_create(&w, tiny_path(folder, "model.safetensors"), items, n));
    fill(k, items, n);
    must(cdl_safetensors_finish(&w));
}

static void write_model(const quantised *k)
{
    cdl_safetensors_item items[ITEMS];
    list_items(items, k);
    tiny_write_text(folder, "config.json", k->config);
    write_items(k, items, k->awq ? ITEMS - 1 : ITEMS);
}

static uint32_t nibble(const uint8_t *words, size_t word, uint32_t at)
{
    uint32_t v;
    memcpy(&v, words + 4 * word, 4);
    return v >> 4 * at & 15;
}

/* As AutoGPTQ and AutoAWQ take them apart, from the tensors written above. */
static float value_of(const quantised *k, const cdl_int4 *q, uint32_t row, uint32_t col)
{
    static const uint32_t awq_order[8] = { 0, 2, 4, 6, 1, 3, 5, 7 }; /* output of nibble i */
    uint32_t at = row % 8, group = group_of(k, col);
    uint16_t scale;
    memcpy(&scale, q->scales.data + 2 * ((size_t)group * ROWS + row), 2);
    for (uint32_t i = 0; k->awq && i < 8; i++)
        if (awq_order[i] == row % 8)
            at = i;
    uint32_t code = k->awq ? nibble(q->codes.data, (size_t)col * (ROWS / 8) + row / 8, at)
        : nibble(q->codes.data, (size_t)(col / 8) * ROWS + row, col % 8);
    uint32_t zero = (nibble(q->zeros.data, (size_t)group * (ROWS / 8) + row / 8, at) + plus_one(k)) & 15;
    return ((float)code - (float)zero) * cdl_f32_from_f16(scale);
}

/* Rows from the fifth on in a type; f16's are rounded. */
static void check_type(const quantised *k, const cdl_int4 *w, cdl_dtype t)
{
    size_t row_bytes;
    assert_true(cdl_dtype_row_bytes(&row_bytes, t, COLS));
    uint8_t *rows = malloc((ROWS - 5) * row_bytes);
    float x[COLS];
    cdl_int4_rows(rows, w, t, 5, ROWS - 5);
    for (uint32_t r = 5; r < ROWS; r++) {
        cdl_dtype_to_f32(x, t, rows + (r - 5) * row_bytes, COLS);
        for (uint32_t i = 0; i < COLS; i++) {
            float want = value_of(k, w, r, i);
            want = t == CDL_DTYPE_F16 ? cdl_f32_from_f16(cdl_f16_from_f32(want)) : want;
            if (x[i] != want)
                fail_msg("%s as %s: weight (%u, %u) is %g, not %g", k->config, cdl_dtype_get(t)->name, r, i,
                    (double)x[i], (double)want);
        }
    }
    free(rows);
}

static void check_values(const quantised *k, cdl_dtype type, cdl_dtype plain)
{
    cdl_checkpoint *c;
    write_model(k);
    must(cdl_checkpoint_open(&c, folder, false));
    assert_int_equal(cdl_checkpoint_count(c), 1);
    const cdl_tensor_entry *e = cdl_checkpoint_find(c, "m.weight");
    assert_non_null(e);
    assert_null(cdl_checkpoint_find(c, "m.qweight"));
    assert_null(cdl_checkpoint_find(c, "m.scales"));
    assert_int_equal(e->dtype, type);
    assert_int_equal(e->dim[0], ROWS);
    assert_int_equal(e->dim[1], COLS);
    assert_int_equal(e->bytes, cdl_checkpoint_bytes(c));
    assert_int_equal(cdl_int4_plain(e->int4), plain);
    const cdl_dtype all[] = { CDL_DTYPE_I4_G32, CDL_DTYPE_I4_G64, CDL_DTYPE_I4_G128, CDL_DTYPE_Q4_0, CDL_DTYPE_Q5_0,
                              CDL_DTYPE_F16 };
    unsigned held = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (cdl_int4_holds(e->int4, all[i]) && ++held)
            check_type(k, e->int4, all[i]);
    check_type(k, e->int4, CDL_DTYPE_F32);
    assert_int_equal(held, type == CDL_DTYPE_F16 ? 1 : plain == CDL_DTYPE_Q4_0 ? 3 : 2);
    cdl_checkpoint_drop(c, e, 0, e->bytes);
    check_type(k, e->int4, type); /* the pages come back */
    cdl_checkpoint_close(c);
}

static void test_values(void **state)
{
    (void)state;
    check_values(&(quantised){ GPTQ, 32, false, false, false }, CDL_DTYPE_I4_G32, CDL_DTYPE_Q5_0);
    check_values(&(quantised){ GPTQ, 64, false, false, false }, CDL_DTYPE_I4_G64, CDL_DTYPE_Q5_0);
    check_values(&(quantised){ GPTQ, 64, false, true, false }, CDL_DTYPE_I4_G64, CDL_DTYPE_Q4_0);
    check_values(&(quantised){ GPTQ2, 128, false, false, false }, CDL_DTYPE_I4_G128, CDL_DTYPE_Q5_0);
    check_values(&(quantised){ GPTQ2, 32, false, true, false }, CDL_DTYPE_I4_G32, CDL_DTYPE_Q4_0);
    check_values(&(quantised){ GPTQ, 256, false, false, false }, CDL_DTYPE_I4_G128, CDL_DTYPE_Q5_0);
    check_values(&(quantised){ AWQ, 32, true, false, false }, CDL_DTYPE_I4_G32, CDL_DTYPE_Q5_0);
    check_values(&(quantised){ AWQ, 128, true, true, false }, CDL_DTYPE_I4_G128, CDL_DTYPE_Q4_0);
}

/* Groups whose columns do not stand together, or of no multiple of 32. */
static void test_what_fits_no_blocks_is_f16(void **state)
{
    (void)state;
    check_values(&(quantised){ GPTQ, 32, false, false, true }, CDL_DTYPE_F16, CDL_DTYPE_F16);
    check_values(&(quantised){ GPTQ2, 128, false, true, true }, CDL_DTYPE_F16, CDL_DTYPE_F16);
    check_values(&(quantised){ AWQ, 16, true, false, false }, CDL_DTYPE_F16, CDL_DTYPE_F16);
}

/* Before config.json had it, the quantiser's settings lay in a file of their own. */
static void test_settings_in_a_file_of_their_own(void **state)
{
    static const char *const files[] = { "quantize_config.json", "quant_config.json" };
    (void)state;
    for (int awq = 0; awq < 2; awq++) {
        quantised k = { "{}", 64, awq, false, false };
        tiny_write_text(folder, files[awq], awq ? "{\"w_bit\":4,\"version\":\"GEMM\"}" : "{\"bits\":4}");
        check_values(&k, CDL_DTYPE_I4_G64, CDL_DTYPE_Q5_0);
        unlink(tiny_path(folder, files[awq]));
    }
}

static void refused(const char *words)
{
    cdl_checkpoint *c;
    cuddle_status st = cdl_checkpoint_open(&c, folder, false);
    const char *line = cuddle_errmsg();
    if (st != CUDDLE_ERR_UNSUPPORTED || strchr(line, '\n') || !strstr(line, words) || !strstr(line, folder))
        fail_msg("'%s' is not in: %s", words, line);
}

static void refused_config(const char *config, const char *words)
{
    write_model(&(quantised){ config, 64, strstr(config, "awq") != NULL, false, false });
    refused(words);
}

static void test_settings_that_are_refused(void **state)
{
    (void)state;
    refused_config("{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":3}}", "only 4 bits");
    refused_config("{\"quantization_config\":{\"quant_method\":\"awq\",\"w_bit\":8}}", "only 4 bits");
    refused_config("{\"quantization_config\":{\"quant_method\":\"awq\",\"version\":\"gemv\"}}", "gemm");
    refused_config("{\"quantization_config\":{\"quant_method\":\"gptq\",\"checkpoint_format\":\"marlin\"}}", "gptq_v2");
}

/* A model of GPTQ with one tensor changed, or left out. */
static void refused_item(const char *name, const cdl_safetensors_item *changed, const char *words)
{
    const quantised k = { GPTQ, 64, false, false, false };
    cdl_safetensors_item all[ITEMS], items[ITEMS];
    size_t n = 0;
    list_items(all, &k);
    for (size_t i = 0; i < ITEMS; i++)
        if (strcmp(all[i].name, name))
            items[n++] = all[i];
        else if (changed)
            items[n++] = *changed;
    tiny_write_text(folder, "config.json", GPTQ);
    write_items(&k, items, n);
    refused(words);
}

static void test_tensors_that_are_refused(void **state)
{
    static const cdl_safetensors_item wrong[] = {
        { "m.qweight", CDL_DTYPE_I32, 1, { COLS * ROWS / 8 }, NULL },
        { "m.qweight", CDL_DTYPE_F16, 2, { COLS / 8, ROWS }, NULL },
        { "m.qweight", CDL_DTYPE_I32, 2, { COLS / 8, ROWS + 4 }, NULL },
        { "m.qzeros", CDL_DTYPE_I32, 2, { COLS / 64, ROWS / 8 + 1 }, NULL },
        { "m.qzeros", CDL_DTYPE_I32, 2, { 1, ROWS / 8 }, NULL },
        { "m.scales", CDL_DTYPE_F32, 2, { COLS / 64, ROWS }, NULL },
        { "m.scales", CDL_DTYPE_F16, 1, { COLS / 64 * ROWS }, NULL },
        { "m.scales", CDL_DTYPE_F16, 2, { 3, ROWS }, NULL },
        { "m.g_idx", CDL_DTYPE_I32, 1, { COLS - 1 }, NULL },
        { "m.g_idx", CDL_DTYPE_I64, 1, { COLS }, NULL },
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refused_item(wrong[i].name, &wrong[i], wrong[i].name[2] == 'g' ? "m.g_idx" : "m.qweight");
    refused_item("m.qzeros", NULL, "m.qweight: its scales must be f16 and its qzeros i32");
    refused_item("m.scales", NULL, "m.qweight: its scales are missing");
    write_model(&(quantised){ GPTQ, 64, true, false, false }); /* the shapes are the other format's */
    refused("m.qweight");
}

/* A column of a group that is not there. */
static void test_group_out_of_range_is_refused(void **state)
{
    const quantised k = { GPTQ, 64, false, false, false };
    cdl_safetensors_item items[ITEMS];
    cdl_safetensors_writer w;
    (void)state;
    list_items(items, &k);
    tiny_write_text(folder, "config.json", GPTQ);
    must(cdl_safetensors_create(&w, tiny_path(folder, "model.safetensors"), items, ITEMS));
    fill(&k, items, ITEMS);
    ((uint32_t *)items[3].data)[7] = COLS / 64;
    must(cdl_safetensors_finish(&w));
    refused("m.g_idx: a column's group is not there");
}

/* Any bit of the header may be another: refused, or read within the file. */
static void test_damaged_headers(void **state)
{
    char *file;
    size_t n, header = 0;
    unsigned opened = 0;
    (void)state;
    write_model(&(quantised){ GPTQ, 64, false, false, false });
    must(cdl_map_read(&file, &n, tiny_path(folder, "model.safetensors"), 1 << 20));
    memcpy(&header, file, 8);
    for (size_t i = 8; i < 8 + header; i++) {
        for (int bit = 0; bit < 8; bit += 3) {
            cdl_checkpoint *c;
            file[i] ^= (char)(1 << bit);
            tiny_write(folder, "model.safetensors", file, n);
            file[i] ^= (char)(1 << bit);
            if (cdl_checkpoint_open(&c, folder, false) != CUDDLE_OK)
                continue;
            const cdl_tensor_entry *e = cdl_checkpoint_at(c, 0);
            float *rows = e->int4 ? malloc((size_t)e->int4->rows * e->int4->cols * sizeof *rows) : NULL;
            if (rows && ++opened)
                cdl_int4_rows((uint8_t *)rows, e->int4, CDL_DTYPE_F32, 0, e->int4->rows);
            free(rows);
            cdl_checkpoint_close(c);
        }
    }
    assert_true(opened > 0);
    cdl_mem_free(file);
}

static void test_other_methods_are_left_alone(void **state)
{
    cdl_checkpoint *c;
    (void)state;
    write_model(&(quantised){ "{\"quantization_config\":{\"quant_method\":\"fp8\"}}", 64, false, false, false });
    must(cdl_checkpoint_open(&c, folder, false));
    assert_non_null(cdl_checkpoint_find(c, "m.qweight"));
    cdl_checkpoint_close(c);
}

static cuddle_status open_close(void *user)
{
    cdl_checkpoint *c;
    (void)user;
    CDL_TRY(cdl_checkpoint_open(&c, folder, false));
    cdl_checkpoint_close(c);
    return CUDDLE_OK;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    write_model(&(quantised){ GPTQ, 64, false, false, true });
    torture(open_close, NULL, false, 1);
    torture(open_close, NULL, true, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_fits_no_blocks_is_f16, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_settings_in_a_file_of_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_settings_that_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tensors_that_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_group_out_of_range_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_methods_are_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_out_of_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
