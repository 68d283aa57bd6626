#!/bin/sh
# Links a static program that is loaded at any address, for machines whose static programs rustc links for a fixed one: the
# options for it take the place of -static and -no-pie, and the start files that relocate the program that of the others.
# The compiler that links is STATIC_PIE_COMPILER.
set -eu
for word; do
    shift
    case $word in
    -static) continue ;;
    -no-pie) word=-static-pie ;;
    */crt1.o) word=${word%crt1.o}rcrt1.o ;;
    */crtbegin.o) word=${word%.o}S.o ;;
    */crtend.o) word=${word%.o}S.o ;;
    esac
    set -- "$@" "$word"
done
exec "$STATIC_PIE_COMPILER" "$@"
