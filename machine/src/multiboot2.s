# The Multiboot2 header (Multiboot2 Specification 2.0 §3.1), which the linker script puts into the file's first 32 KiB, and
# the entry that it names, as e_entry is 64-bit: 32-bit protected mode, no paging, EBX = tags, from BIOS and UEFI alike.

.section .multiboot2, "a", @progbits
.balign 8
2:  .long 0xe85250d6, 0, 3f - 2b        # magic, i386, length
    .long -(0xe85250d6 + 3f - 2b)
    .word 1, 0                          # wanted: memory map
    .long 12, 6
    .balign 8
    .word 3, 0                          # entry address
    .long 12, weir_multiboot2_entry
    .balign 8
    .word 5, 1                          # any framebuffer, if there must be one: else GRUB on UEFI warns
    .long 20, 0, 0, 0
    .balign 8
    .word 0, 0
    .long 8
3:

.section .text.weir_boot, "ax", @progbits
.code32
weir_multiboot2_entry:
    mov ebp, offset weir_multiboot2_entry_64
    jmp weir_entry_32
.code64
weir_multiboot2_entry_64:
    mov edi, esi
    mov esi, {multiboot2}
    jmp weir_entry_64
.text
