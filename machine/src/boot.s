# Entry from a PVH loader (32-bit protected mode, no paging, EBX = start info) and of the other CPUs, which
# arrive here from the trampoline in the first MiB. Both leave through enter_long_mode.

.section .note.Xen, "a", @note
.balign 4
.long 4, 4, 18                          # XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.long weir_pvh_entry

.section .text.weir_boot, "ax", @progbits
.code32
.globl weir_pvh_entry
weir_pvh_entry:
    mov ebp, offset weir_pvh_entry_64

# 32-bit protected mode, no paging. EBX = what the loader left, EBP = where to go on in 64-bit mode.
weir_entry_32:
    cli
    cld
    rdtsc
    mov dword ptr [{entry_tsc}], eax
    mov dword ptr [{entry_tsc} + 4], edx
    # The first 4 GiB, 2 MiB a page, writable: until paging::start has built the real map.
    mov edi, offset weir_entry_directories
    mov eax, 0x83
    mov ecx, 2048
2:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 2b
    mov edi, offset weir_entry_pointers
    mov eax, offset weir_entry_directories + 3
    mov ecx, 4
3:  mov [edi], eax
    add eax, 0x1000
    add edi, 8
    dec ecx
    jnz 3b
    mov eax, offset weir_entry_pointers + 3
    mov dword ptr [weir_entry_root], eax
    mov eax, offset weir_entry_root
    mov esi, ebx
    mov edi, ebp
    jmp weir_enter_long_mode

.globl weir_ap_entry_32
weir_ap_entry_32:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov eax, offset {root}
    xor esi, esi
    mov edi, offset weir_ap_entry_64

# EAX = page tables, EDI = where to go on, ESI is kept. Uses no stack.
weir_enter_long_mode:
    mov cr3, eax
    mov eax, 0x620                      # PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, 0x80000001
    cpuid
    mov ebp, edx
    mov ecx, 0xc0000080                 # EFER
    rdmsr
    or eax, 0x100                       # LME
    bt ebp, 20
    jnc 4f
    or eax, 0x800                       # NXE
4:  wrmsr
    mov eax, 0x80010033                 # PG, WP, NE, ET, MP, PE
    mov cr0, eax
    lgdt [weir_entry_gdtr]
    ljmp 0x08, offset weir_long_mode
.code64
weir_long_mode:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    xor ebp, ebp
    jmp rdi

weir_pvh_entry_64:
    mov edi, esi
    mov esi, {pvh}

# RDI = what the loader left, ESI = the boot protocol.
weir_entry_64:
    mov rsp, offset {stacks} + {stacks_len}
    call {boot}
    ud2

# Takes the block that smp::start_one left for exactly one CPU; whoever finds none is not expected and stops.
weir_ap_entry_64:
    xor edi, edi
    xchg rdi, qword ptr [{mailbox}]
    test rdi, rdi
    jz 6f
    mov rsp, qword ptr [rdi + {run_top}]
    call {secondary}
    ud2
6:  cli
    hlt
    jmp 6b

.section .rodata.weir_boot, "a", @progbits
.balign 8
.globl weir_entry_gdt
weir_entry_gdt:
    .quad 0
    .quad 0x00af9a000000ffff            # 0x08: 64-bit code
    .quad 0x00cf92000000ffff            # 0x10: data
    .quad 0x00cf9a000000ffff            # 0x18: 32-bit code
weir_entry_gdtr:
    .word 31
    .long weir_entry_gdt

# Copied to a page below 1 MiB, where a CPU starts in real mode with CS = page / 16 and IP = 0.
.globl weir_trampoline
weir_trampoline:
.code16
    cli
    cld
    mov ax, cs
    mov ds, ax
    .byte 0x66, 0x0f, 0x01, 0x16        # lgdt [disp16], 32-bit base
    .word 7f - weir_trampoline
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea                    # jmp 0x18:weir_ap_entry_32
    .long weir_ap_entry_32
    .word 0x18
    .balign 4
7:  .word 31
    .long weir_entry_gdt
.globl weir_trampoline_end
weir_trampoline_end:
.code64

.section .bss.weir_boot, "aw", @nobits
.balign 4096
weir_entry_root:        .skip 4096
weir_entry_pointers:    .skip 4096
weir_entry_directories: .skip 16384
.text
