/* fuzz_import.c - a byte that says which kind of file (import.h), the file: what comes out is refused, or encodes. */
#include <stdint.h>
#include <stdlib.h>

#include "cuddle_tokenizer.h"
#include "token/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const cdl_import_type types[] = { CDL_IMPORT_SENTENCEPIECE, CDL_IMPORT_TIKTOKEN, CDL_IMPORT_TEKKEN,
                                             CDL_IMPORT_VOCAB_TXT, CDL_IMPORT_VOCAB_JSON };
    cuddle_tokenizer *t;
    cuddle_encoding *e;
    static const char text[] = "Hello  world\n\xc3\xa9<s>\xe4\xb8\xad";
    if (!size)
        return 0;
    cdl_import_type type = types[data[0] % 5];
    if (cdl_tokenizer_import(&t, type, (const char *)data + 1, size - 1, "fuzz/vocab.json") != CUDDLE_OK)
        return 0;
    if (cuddle_encoding_new(&e) == CUDDLE_OK) {
        if (cuddle_tokenizer_encode(t, e, text, sizeof text - 1, NULL) != CUDDLE_OK && !*cuddle_errmsg())
            abort();
        cuddle_encoding_free(e);
    }
    cuddle_tokenizer_close(t);
    return 0;
}
