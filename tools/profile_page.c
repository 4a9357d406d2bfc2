/* profile_page.c - a profile as one HTML page: profile.html, whose script draws what stands in its JSON. */
#include <string.h>

#include "profile.h"

/* The page's text, put in by the assembler: tools/profile.html. */
extern const char cdl_profile_page[], cdl_profile_page_end[];
__asm__(".pushsection .rodata\n"
        "cdl_profile_page: .incbin \"tools/profile.html\"\n"
        "cdl_profile_page_end: .byte 0\n"
        ".popsection\n");

/* JSON inside a script element: "</" would end it. */
static cuddle_status put_inside(cdl_buf *out, const cdl_buf *json)
{
    for (size_t i = 0; i < json->len; i++) {
        if (json->data[i] == '<')
            CDL_TRY(cdl_buf_puts(out, "\\u003c"));
        else
            CDL_TRY(cdl_buf_putc(out, json->data[i]));
    }
    return CUDDLE_OK;
}

cuddle_status profile_put_page(cdl_buf *b, const profile_report *r)
{
    static const char mark[] = "PROFILE_JSON";
    const char *at = strstr(cdl_profile_page, mark);
    cdl_buf json = { 0 };
    if (!at)
        return cdl_status_fail(CUDDLE_ERR_FORMAT, "the page of this build is damaged");
    cuddle_status st = profile_put_json(&json, r);
    if (st == CUDDLE_OK)
        st = cdl_buf_append(b, cdl_profile_page, (size_t)(at - cdl_profile_page));
    if (st == CUDDLE_OK)
        st = put_inside(b, &json);
    at += sizeof mark - 1;
    if (st == CUDDLE_OK)
        st = cdl_buf_append(b, at, (size_t)(cdl_profile_page_end - at));
    cdl_buf_free(&json);
    return st;
}
