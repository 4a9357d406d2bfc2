#include "env.h"

#include <stdlib.h>

static const struct { const char *name, *help; } table[] = {
#define X(name, help) { #name, help },
    CDL_ENV_TABLE(X)
#undef X
};

const char *cdl_env_get(cdl_env e)
{
    const char *v = getenv(table[e].name);
    return v && *v ? v : NULL;
}

const char *cdl_env_name(cdl_env e)
{
    return table[e].name;
}

const char *cdl_env_help(cdl_env e)
{
    return table[e].help;
}
