/* fuzz_safetensors.c - a safetensors file of any bytes; one that starts with '{' is the index of shards. */
#include "file.h"

#include <string.h>

#include "format/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The file that an index may name. */
static void start(void)
{
    static const char header[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    char shard[8 + sizeof header - 1 + 8] = { 0 };
    uint64_t length = sizeof header - 1;
    memcpy(shard, &length, 8);
    memcpy(shard + 8, header, length);
    fuzz_file("a.safetensors", shard, sizeof shard);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static volatile unsigned sum;
    static bool started;
    cdl_checkpoint *c;
    if (!started)
        start();
    started = true;
    bool index = n && data[0] == '{';
    const char *path = fuzz_file(index ? "m.safetensors.index.json" : "m.safetensors", data, n);
    if (cdl_checkpoint_open(&c, path, false) != CUDDLE_OK)
        return 0;
    for (size_t i = 0; i < cdl_checkpoint_count(c); i++) {
        const cdl_tensor_entry *t = cdl_checkpoint_at(c, i);
        for (size_t k = 0; k < t->bytes; k++)
            sum += t->data[k];
    }
    cdl_checkpoint_close(c);
    return 0;
}
