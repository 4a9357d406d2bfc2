/* fuzz_gguf.c - a GGUF file of any bytes: open it, read its tensors, build its graph and its tokenizer. */
#include "file.h"

#include "format/checkpoint.h"
#include "model/architecture.h"
#include "model/chat_load.h"
#include "model/tokenizer_load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void use(const cdl_checkpoint *c)
{
    static volatile unsigned sum;
    float few[256];
    for (size_t i = 0; i < cdl_checkpoint_count(c); i++) {
        const cdl_tensor_entry *t = cdl_checkpoint_at(c, i);
        size_t whole = cdl_dtype_get(t->dtype)->block;
        if (t->bytes >= cdl_dtype_get(t->dtype)->bytes)
            cdl_dtype_to_f32(few, t->dtype, t->data + t->bytes - cdl_dtype_get(t->dtype)->bytes, whole);
        sum += t->bytes ? t->data[0] : 0;
    }
    cdl_graph g;
    if (cdl_architecture_build(&g, c) == CUDDLE_OK)
        cdl_graph_free(&g);
    cuddle_tokenizer *tokenizer;
    if (cdl_tokenizer_load(&tokenizer, c) == CUDDLE_OK)
        cuddle_tokenizer_close(tokenizer);
    cuddle_chat_template *chat;
    if (cdl_chat_load(&chat, c, NULL) == CUDDLE_OK)
        cuddle_chat_template_close(chat);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    cdl_checkpoint *c;
    if (cdl_checkpoint_open(&c, fuzz_file("m.gguf", data, n), false) == CUDDLE_OK) {
        use(c);
        cdl_checkpoint_close(c);
    }
    return 0;
}
