# Where the CPU comes in on an interrupt or exception: 256 entries of 32 bytes, one a vector.
#
# Device vectors (0x40-0x7f) run no Rust: set the source's bit, acknowledge, return. They run on the interrupt
# stack of the IST with interrupts off, so neither the red zone nor the vector registers of the interrupted code
# are touched. One that finds a task hands it over to the dispatcher (weir_preempt). Exceptions go to the report and
# do not come back.

.section .text.weir_vectors, "ax", @progbits
.code64
.balign 32
.globl weir_vectors
weir_vectors:

.irp vector, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    .balign 32
    .if (0x60227d00 >> \vector) & 1
    .else
    push 0                              # the CPU pushed no error code
    .endif
    push \vector
    jmp weir_exception
.endr

.rept 16                                # 0x20-0x2f
    .balign 32
    jmp weir_stray
.endr
    .balign 32
    jmp weir_interrupt                  # 0x30: wakes an idle CPU, whose pending word says the rest
.rept 15                                # 0x31-0x3f
    .balign 32
    jmp weir_stray
.endr

.irp source, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    .balign 32
    lock bts qword ptr gs:[{pending}], \source
    jmp weir_interrupt
.endr
.irp source, 32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    .balign 32
    lock bts qword ptr gs:[{pending}], \source
    jmp weir_interrupt
.endr

.rept 127                               # 0x80-0xfe
    .balign 32
    jmp weir_stray
.endr
    .balign 32
    iretq                               # 0xff, spurious: not to be acknowledged (Intel SDM vol. 3A §12.9)
    .balign 32

# A vector nobody allocated: counted, and acknowledged so that it blocks nothing.
weir_stray:
    lock inc qword ptr gs:[{strays}]

# Acknowledges. A mask count of zero means that a task was interrupted which softints may preempt.
weir_interrupt:
    push rax
    lea rax, [rip + weir_halt_hlt]
    cmp rax, qword ptr [rsp + 8]
    je 4f
1:  mov rax, qword ptr gs:[{eoi}]
    test rax, rax
    jz 3f
    mov dword ptr [rax], 0
2:  cmp dword ptr gs:[{masked}], 0
    je weir_preempt
    pop rax
    iretq
3:  push rcx
    push rdx
    mov ecx, 0x80b                      # IA32_X2APIC_EOI
    xor edx, edx
    xor eax, eax
    wrmsr
    pop rdx
    pop rcx
    jmp 2b
4:  inc qword ptr [rsp + 8]             # over the hlt, which is one byte
    jmp 1b

# Sleeps until the next interrupt; interrupts are off before and on after. On a CPU no interrupt comes between sti and
# hlt. Emulated ones forget that (QEMU 7.2 does when it runs a hypervisor, at each exit to that), and to return to the hlt
# would be to sleep through what just came: the stub skips it.
.globl weir_halt
weir_halt:
    sti
weir_halt_hlt:
    hlt
    ret

# Runs the dispatcher in the middle of a task, as if the task had called it. On the interrupt stack lie the task's
# rax, rip, cs, rflags, rsp, ss. All of it moves to the task's own stack, below its red zone, before interrupts are
# on again: from then on nothing of the interrupt stack is in use and the next interrupt may have it. Until then only
# NMI and exceptions can come, which have stacks of their own. A task's stack that has no room faults, and is reported
# as overflowed.
weir_preempt:
    push rcx
    mov rcx, qword ptr [rsp + 40]       # the task's rsp
    sub rcx, 128                        # its red zone (System V ABI, AMD64 3.2.2)
    and rcx, -16
    mov rax, qword ptr [rsp + 48]
    mov qword ptr [rcx - 8], rax        # ss
    mov rax, qword ptr [rsp + 40]
    mov qword ptr [rcx - 16], rax       # rsp
    mov rax, qword ptr [rsp + 32]
    mov qword ptr [rcx - 24], rax       # rflags
    mov rax, qword ptr [rsp + 24]
    mov qword ptr [rcx - 32], rax       # cs
    mov rax, qword ptr [rsp + 16]
    mov qword ptr [rcx - 40], rax       # rip
    mov rax, qword ptr [rsp + 8]
    mov qword ptr [rcx - 48], rax       # rax
    mov rax, qword ptr [rsp]
    mov qword ptr [rcx - 56], rax       # rcx
    lea rsp, [rcx - 56]
    inc dword ptr gs:[{masked}]         # softints do not nest
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push rbx                            # rbx, rbp, r12-r15 the dispatcher keeps; rbp, for backtraces, as it is
    mov rbx, rsp
    sub rsp, qword ptr gs:[{vector_bytes}]
    and rsp, -64
    cld
    mov eax, dword ptr gs:[{vector_sets}]
    xor edx, edx
    test eax, eax
    jz 4f
    mov qword ptr [rsp + 512], rdx      # XSAVE writes one word of the header, XRSTOR wants the rest zero
    mov qword ptr [rsp + 520], rdx      # (Intel SDM vol. 1 13.7, 13.8)
    mov qword ptr [rsp + 528], rdx
    mov qword ptr [rsp + 536], rdx
    mov qword ptr [rsp + 544], rdx
    mov qword ptr [rsp + 552], rdx
    mov qword ptr [rsp + 560], rdx
    mov qword ptr [rsp + 568], rdx
    xsave64 [rsp]
    sti
    call {preempted}                    # comes back with interrupts off
    mov eax, dword ptr gs:[{vector_sets}]
    xor edx, edx
    xrstor64 [rsp]
    jmp 5f
4:  fxsave64 [rsp]
    sti
    call {preempted}
    fxrstor64 [rsp]
5:  mov rsp, rbx
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    dec dword ptr gs:[{masked}]
    pop rax
    iretq

weir_exception:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    xor ebp, ebp
    and rsp, -16
    call {exception}
    ud2
.text
