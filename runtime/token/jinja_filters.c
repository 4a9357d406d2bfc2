/* jinja_filters.c - filters. */
#include "token/jinja_parts.h"

#include <string.h>

#include "base/status.h"

cuddle_status cdl_jinja_filter(j_run *r, const char *name, const j_value *v, const j_args *args, j_value *out)
{
    if (strcmp(name, "tojson") == 0)
        return cdl_jinja_tojson(r, v, args, out);
    if (strcmp(name, "trim") == 0 && v->type == J_STRING)
        return cdl_jinja_trim(r, v, NULL, J_LEFT | J_RIGHT, out);
    return cdl_jinja_fail(r, CUDDLE_ERR_UNSUPPORTED, "the filter '%s' is not known", name);
}

cuddle_status cdl_jinja_test(j_run *r, const char *name, const j_value *v, const j_args *args, bool *out)
{
    (void)args;
    *out = v->type != J_UNDEFINED;
    if (strcmp(name, "defined") == 0)
        return CUDDLE_OK;
    return cdl_jinja_fail(r, CUDDLE_ERR_UNSUPPORTED, "the test '%s' is not known", name);
}

cuddle_status cdl_jinja_format(j_run *r, const j_value *fmt, const j_args *args, j_value *out)
{
    (void)fmt, (void)args, (void)out;
    return cdl_jinja_fail(r, CUDDLE_ERR_UNSUPPORTED, "formatting is not known");
}

cuddle_status cdl_jinja_format_braces(j_run *r, const j_value *fmt, const j_args *args, j_value *out)
{
    return cdl_jinja_format(r, fmt, args, out);
}
