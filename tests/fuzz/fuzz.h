/* One target a file: tests/fuzz/NAME.c with a corpus in tests/fuzz/corpus/NAME. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* libFuzzer's (https://llvm.org/docs/LibFuzzer.html); main.c calls them, too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
