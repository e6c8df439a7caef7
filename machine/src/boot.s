# Every way into the image, and the way of the other CPUs, which arrive from the trampoline in the first MiB or, on
# uhyve, wait here from the start. All build on page tables that are part of the image, and leave through
# weir_entry_64.

.section .note.Xen, "a", @note
.balign 4
.long 4, 4, 18                          # XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.long weir_pvh_entry

.section .text.weir_boot, "ax", @progbits

# The ELF entry point: long mode, some identity map that holds the image. Two protocols share it.
#   Hermit: RDI = boot info, RSI = number of the CPU. All CPUs enter, with one stack pointer for all; SSE is off.
#   Linux's 64-bit protocol: RSI = boot_params, a page that has "HdrS" at 0x202.
.code64
.globl weir_entry
weir_entry:
    cli
    cld
    cmp rsi, 0x1000                     # no boot_params lie in page 0, no machine has so many CPUs
    jae 2f
    test esi, esi
    jnz weir_hermit_wait
    mov esi, {hermit}
    jmp 4f
2:  cmp dword ptr [rsi + 0x202], 0x53726448
    jne 3f
    mov rdi, rsi
    mov esi, {linux}
    jmp 4f
3:  mov rdi, rsi
    mov esi, {unknown}
4:  rdtsc
    mov dword ptr [{entry_tsc}], eax
    mov dword ptr [{entry_tsc} + 4], edx
    mov r9d, offset weir_entry_root
    mov r8d, offset weir_entry_64
    jmp weir_take_over

# Hermit's other CPUs wait on the loader's page tables until smp::start_one calls them by their number.
weir_hermit_wait:
    pause
    cmp dword ptr [{called}], esi
    jne weir_hermit_wait
    mov r9d, offset {root}
    mov r8d, offset weir_ap_entry_64

# R9 = page tables, R8 = where to go on; RDI and RSI are kept. Uses no stack. Segments stay until cpu::load.
weir_take_over:
    mov eax, 0x80000001
    cpuid
    mov r10d, edx
    mov ecx, 0xc0000080                 # EFER
    rdmsr
    bt r10d, 20
    jnc 5f
    or eax, 0x800                       # NXE, before page tables that may use it
5:  wrmsr
    mov eax, 0x620                      # PAE, OSFXSR, OSXMMEXCPT
    mov cr4, rax
    mov cr3, r9
    mov eax, 0x80010033                 # PG, WP, NE, ET, MP, PE
    mov cr0, rax
    xor ebp, ebp
    jmp r8

# PVH: 32-bit protected mode, no paging, EBX = start info.
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

# The first 4 GiB, 2 MiB a page, writable: until paging::start has built the real map.
.section .data.weir_boot, "aw", @progbits
.balign 4096
weir_entry_root:
    .quad weir_entry_pointers + 3
    .balign 4096
weir_entry_pointers:
    .quad weir_entry_directories + 0x0003
    .quad weir_entry_directories + 0x1003
    .quad weir_entry_directories + 0x2003
    .quad weir_entry_directories + 0x3003
    .balign 4096
weir_entry_directories:
    .set weir_entry_address, 0
.rept 2048
    .quad weir_entry_address + 0x83
    .set weir_entry_address, weir_entry_address + 0x200000
.endr
.text
