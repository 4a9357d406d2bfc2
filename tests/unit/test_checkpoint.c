/* Whole models cut short at every length and with every kind of flipped bit: opening and loading end with a
 * result or with one line; configurations of wrong types; folders without what they need. */
#include "torture.h"

#include "cuddle_engine.h"
#include "model/convert.h"
#include "unit/folder.h"

#define CONFIG(more) "{\"model_type\":\"llama\",\"hidden_size\":32,\"intermediate_size\":32,\"num_hidden_layers\":1," \
    "\"num_attention_heads\":2,\"vocab_size\":16" more "}"
#define TOKENIZER "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}," \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"}}"

static uint8_t *image;         /* of the whole file */
static size_t image_size;

static int tear_down_image(void **state)
{
    free(image);
    image = NULL;
    return tear_down(state);
}

static void read_image(const char *name)
{
    FILE *f = fopen(tiny_path(folder, name), "rb");
    fseek(f, 0, SEEK_END);
    image_size = (size_t)ftell(f);
    rewind(f);
    image = malloc(image_size);
    assert_int_equal(fread(image, 1, image_size, f), image_size);
    fclose(f);
}

static void make_gguf(const char *type)
{
    cdl_checkpoint *c;
    cdl_convert_opts o = { .type = type, .threads = 1 };
    must(tiny_model(folder, CONFIG("")));
    tiny_write_text(folder, "tokenizer.json", TOKENIZER);
    must(cdl_checkpoint_open(&c, folder, false));
    must(cdl_convert(c, tiny_path(folder, "m.gguf"), &o));
    cdl_checkpoint_close(c);
    read_image("m.gguf");
}

static void check_line(cuddle_status st)
{
    const char *line = cuddle_errmsg();
    if (st == CUDDLE_ERR_INTERNAL || !*line || strchr(line, '\n'))
        fail_msg("%s: '%s'", cuddle_status_name(st), line);
}

/* Opens the file and reads every tensor; now and then an engine too. Returns whether it opened. */
static bool try_file(const char *path, bool engine)
{
    cuddle_model *m;
    cuddle_engine *e = NULL;
    const cuddle_tokenizer *t;
    cdl_checkpoint *c;
    cdl_graph g;
    cuddle_status st = cdl_checkpoint_open(&c, path, false);
    if (st != CUDDLE_OK) {
        check_line(st);
        return false;
    }
    unsigned sum = 0;
    for (size_t i = 0; i < cdl_checkpoint_count(c); i++) {
        const cdl_tensor_entry *entry = cdl_checkpoint_at(c, i);
        for (size_t k = 0; k < entry->bytes; k++)
            sum += entry->data[k];
    }
    assert_true(sum < UINT32_MAX);
    st = cdl_architecture_build(&g, c);
    if (st == CUDDLE_OK)
        cdl_graph_free(&g);
    else
        check_line(st);
    cdl_checkpoint_close(c);
    if (!engine)
        return true;
    must(cuddle_model_open(&m, path));
    cuddle_engine_opts o = { .size = sizeof o, .threads = 1, .context_max = 32, .step_tokens = 8, .cpu = "ref" };
    st = cuddle_engine_open(&e, m, &o);
    if (st != CUDDLE_OK)
        check_line(st);
    st = cuddle_model_tokenizer(m, &t);
    if (st != CUDDLE_OK)
        check_line(st);
    cuddle_engine_close(e);
    cuddle_model_close(m);
    return true;
}

static void cut_everywhere(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s", tiny_path(folder, name));
    for (size_t n = image_size; n-- > 0;) {
        if (truncate(path, (off_t)n))
            fail();
        if (try_file(path, false))
            fail_msg("%zu of %zu bytes were taken for the whole file", n, image_size);
    }
}

static void test_gguf_cut_at_every_length(void **state)
{
    (void)state;
    make_gguf("q8_0");
    while (image_size && !image[image_size - 1]) /* what pads the last tensor may be missing */
        image_size--;
    cut_everywhere("m.gguf");
}

static void test_safetensors_cut_at_every_length(void **state)
{
    (void)state;
    must(tiny_model(folder, CONFIG(",\"num_key_value_heads\":1")));
    read_image("model.safetensors");
    cut_everywhere("model.safetensors");
}

static void flip(const char *path, size_t byte, uint8_t mask, bool engine)
{
    FILE *f = fopen(path, "r+b");
    uint8_t changed = image[byte] ^ mask;
    fseek(f, (long)byte, SEEK_SET);
    assert_int_equal(fwrite(&changed, 1, 1, f), 1);
    fclose(f);
    try_file(path, engine);
    f = fopen(path, "r+b");
    fseek(f, (long)byte, SEEK_SET);
    assert_int_equal(fwrite(&image[byte], 1, 1, f), 1);
    fclose(f);
}

/* Every bit of the header, and bytes here and there behind it; an engine for every 61st. */
static void flip_everywhere(const char *name, size_t header)
{
    char path[512];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s", tiny_path(folder, name));
    for (size_t byte = 0; byte < header; byte++) {
        for (int bit = 0; bit < 8; bit++)
            flip(path, byte, (uint8_t)(1 << bit), ++n % 61 == 0);
        flip(path, byte, 0xff, ++n % 61 == 0);
    }
    for (size_t byte = header; byte < image_size; byte += 997)
        flip(path, byte, 0x7f, true);
    assert_true(try_file(path, true));
}

static void test_gguf_with_flipped_bits(void **state)
{
    (void)state;
    make_gguf("q4_0");
    size_t header = 0;
    for (size_t i = 0; i + 18 < image_size; i++) /* the list of tensors ends behind the last name */
        if (!memcmp(image + i, "output_norm.weight", 18))
            header = i + 60;
    assert_true(header > 500);
    flip_everywhere("m.gguf", header);
}

static void test_safetensors_with_flipped_bits(void **state)
{
    (void)state;
    uint64_t header;
    must(tiny_model(folder, CONFIG("")));
    read_image("model.safetensors");
    memcpy(&header, image, 8);
    flip_everywhere("model.safetensors", 8 + (size_t)header);
}

static void refuse_config(const char *config, cuddle_status want, const char *words)
{
    cdl_checkpoint *c;
    cdl_graph g;
    tiny_write_text(folder, "config.json", config);
    cuddle_status st = cdl_checkpoint_open(&c, folder, true);
    if (st == CUDDLE_OK) {
        st = cdl_architecture_build(&g, c);
        cdl_checkpoint_close(c);
    }
    if (st != want || !strstr(cuddle_errmsg(), words) || !strstr(cuddle_errmsg(), folder))
        fail_msg("%s: %s: %s, wanted '%s'", config, cuddle_status_name(st), cuddle_errmsg(), words);
}

static void test_configs_of_wrong_types(void **state)
{
    (void)state;
    refuse_config("", CUDDLE_ERR_FORMAT, "config.json");
    refuse_config("[]", CUDDLE_ERR_FORMAT, "no JSON object");
    refuse_config("{\"model_type\":5}", CUDDLE_ERR_UNSUPPORTED, "model_type");
    refuse_config("{}", CUDDLE_ERR_UNSUPPORTED, "model_type");
    refuse_config("{\"model_type\":\"llama\"}", CUDDLE_ERR_FORMAT, "hidden_size is missing");
    refuse_config(CONFIG(",\"num_key_value_heads\":\"2\""), CUDDLE_ERR_FORMAT, "num_key_value_heads must be");
    refuse_config(CONFIG(",\"head_dim\":-8"), CUDDLE_ERR_FORMAT, "head_dim must be");
    refuse_config(CONFIG(",\"head_dim\":1e30"), CUDDLE_ERR_FORMAT, "head_dim must be");
    refuse_config(CONFIG(",\"head_dim\":9223372036854775807"), CUDDLE_ERR_FORMAT, "head_dim must be");
    refuse_config(CONFIG(",\"rms_norm_eps\":\"small\""), CUDDLE_ERR_FORMAT, "rms_norm_eps must be a number");
    refuse_config(CONFIG(",\"tie_word_embeddings\":1"), CUDDLE_ERR_FORMAT, "tie_word_embeddings must be true or false");
    refuse_config(CONFIG(",\"hidden_act\":[]"), CUDDLE_ERR_FORMAT, "hidden_act must be a string");
    refuse_config(CONFIG(",\"hidden_act\":\"magic\""), CUDDLE_ERR_UNSUPPORTED, "magic");
    refuse_config(CONFIG(",\"rope_theta\":0"), CUDDLE_ERR_FORMAT, "rope_theta");
    refuse_config(CONFIG(",\"rope_scaling\":{\"type\":\"linear\"}"), CUDDLE_ERR_FORMAT, "factor");
    refuse_config(CONFIG(",\"rope_scaling\":{\"type\":\"spiral\"}"), CUDDLE_ERR_UNSUPPORTED, "spiral");
    refuse_config(CONFIG(",\"layer_types\":[1,2]"), CUDDLE_ERR_FORMAT, "layer_types");
    refuse_config(CONFIG(",\"hidden_size\":3"), CUDDLE_ERR_FORMAT, "hidden_size");
}

static void test_folders_without_a_model(void **state)
{
    (void)state;
    cdl_checkpoint *c;
    assert_int_equal(cdl_checkpoint_open(&c, folder, false), CUDDLE_ERR_NOTFOUND);
    assert_non_null(strstr(cuddle_errmsg(), "no model.safetensors"));
    must(cdl_checkpoint_open(&c, folder, true));
    assert_int_equal(cdl_checkpoint_count(c), 0);
    cdl_checkpoint_close(c);
    assert_int_equal(cdl_checkpoint_open(&c, tiny_path(folder, "nothing.gguf"), false), CUDDLE_ERR_NOTFOUND);
    tiny_write_text(folder, "model.bin", "x");
    assert_int_equal(cdl_checkpoint_open(&c, tiny_path(folder, "model.bin"), false), CUDDLE_ERR_UNSUPPORTED);
    tiny_write_text(folder, "a.gguf", "x");
    tiny_write_text(folder, "b.gguf", "x");
    assert_int_equal(cdl_checkpoint_open(&c, folder, false), CUDDLE_ERR_ARG);
    assert_non_null(strstr(cuddle_errmsg(), "name the one to use"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down_image)
    const struct CMUnitTest tests[] = {
        TEST(test_gguf_cut_at_every_length), TEST(test_safetensors_cut_at_every_length),
                TEST(test_gguf_with_flipped_bits),
        TEST(test_safetensors_with_flipped_bits), TEST(test_configs_of_wrong_types), TEST(test_folders_without_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
