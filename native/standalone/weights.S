// The packed weights as a constant: WEIGHTS_FILE is their file.
    .section .rodata.weights, "a", %progbits
    .globl effgen_weights
    .hidden effgen_weights
    .type effgen_weights, %object
    .balign 64
effgen_weights:
    .incbin WEIGHTS_FILE
    .size effgen_weights, . - effgen_weights
    .section .note.GNU-stack, "", %progbits
