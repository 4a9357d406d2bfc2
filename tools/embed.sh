#!/usr/bin/env bash
# embed.sh IMAGE... - prints the assembly of cdl_images (runtime/device/images.h): a row for each image, with IMAGE.zst in it.
# IMAGE: <name>.ptx, whose .target line tells its capability, or <name>.sm_<capability>.cubin; an `a` behind it: exact.
set -eu
rows=
printf '.section .rodata\n'
n=0
for image in "$@"; do
    name=${image##*/}
    name=${name%%.*}
    case $image in
    *.ptx) is_ptx=1 capability=$(sed -n 's/^\.target sm_\([0-9]*a*\).*/\1/p' "$image") ;;
    *) is_ptx=0 capability=${image##*.sm_} capability=${capability%.cubin} ;;
    esac
    case $capability in *a) exact=1 ;; *) exact=0 ;; esac
    printf '.Lname%d: .string "%s"\n.Lpacked%d: .incbin "%s.zst"\n.Lend%d:\n' "$n" "$name" "$n" "$image" "$n"
    rows+=".quad .Lname$n, .Lpacked$n, .Lend$n\n.long ${capability%a}, $is_ptx, $exact, 0\n"
    n=$((n + 1))
done
printf '.section .data.rel.ro,"aw"\n.balign 8\n.globl cdl_images\n.hidden cdl_images\n.type cdl_images, @object\n'
printf 'cdl_images:\n%b.quad 0, 0, 0\n.long 0, 0, 0, 0\n.size cdl_images, . - cdl_images\n' "$rows"
printf '.section .note.GNU-stack,"",@progbits\n'
