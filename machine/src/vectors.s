# Where the CPU comes in on an interrupt or exception: 256 entries of 32 bytes, one a vector.
#
# Device vectors (0x40-0x7f) run no Rust: set the source's bit, acknowledge, return. They run on the interrupt
# stack of the IST with interrupts off, so neither the red zone nor the vector registers of the interrupted code
# are touched. Exceptions go to the report and do not come back.

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

# Acknowledges. Interrupts are off and stay off until iretq, so nothing nests here. gs:[context] tells whether
# a task was interrupted: the place to leave this stack and run what has become pending.
weir_interrupt:
    push rax
    mov rax, qword ptr gs:[{eoi}]
    test rax, rax
    jz 2f
    mov dword ptr [rax], 0
    pop rax
    iretq
2:  push rcx
    push rdx
    mov ecx, 0x80b                      # IA32_X2APIC_EOI
    xor edx, edx
    wrmsr
    pop rdx
    pop rcx
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
