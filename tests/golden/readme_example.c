#include <stdio.h>
#include "cuddle_generate.h"

#define TRY(x) if ((x) != CUDDLE_OK) return fprintf(stderr, "%s\n", cuddle_errmsg()), 1

static bool print(void *user, const char *text, size_t n)
{
    return fwrite(text, 1, n, user) == n;
}

int main(int argc, char **argv)             /* MODEL PROMPT */
{
    cuddle_model *model;
    TRY(cuddle_model_open(&model, argc > 1 ? argv[1] : ""));
    cuddle_engine *engine;                  /* NULL: default options */
    TRY(cuddle_engine_open(&engine, model, NULL));
    const cuddle_chat_template *chat;
    TRY(cuddle_model_chat_template(model, &chat));
    cuddle_chat_message message = { "user", argc > 2 ? argv[2] : "Hello!" };
    cuddle_chat_request request = { .size = sizeof request, .messages = &message, .n_messages = 1,
                                    .add_generation_prompt = true };
    char *text;
    size_t n;
    TRY(cuddle_chat_template_render(chat, &request, &text, &n));
    const cuddle_tokenizer *tokenizer;
    TRY(cuddle_model_tokenizer(model, &tokenizer));
    cuddle_encoding *encoding;
    TRY(cuddle_encoding_new(&encoding));
    cuddle_encode_opts as_is = { .size = sizeof as_is, .no_special_tokens = true };
    TRY(cuddle_tokenizer_encode(tokenizer, encoding, text, n, &as_is));
    cuddle_encoding_view ids = { .size = sizeof ids };
    cuddle_encoding_look(encoding, &ids);
    cuddle_sequence *sequence;
    TRY(cuddle_sequence_open(&sequence, engine));
    cuddle_generate_opts opts = { .size = sizeof opts, .prompt = ids.ids, .n_prompt = ids.n,
                                  .tokens_max = 64, .on_text = print, .user = stdout };
    TRY(cuddle_generate(sequence, &opts, NULL));
    cuddle_sequence_close(sequence), cuddle_encoding_free(encoding), cuddle_chat_text_free(text);
    cuddle_engine_close(engine), cuddle_model_close(model);
}
