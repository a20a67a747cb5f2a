#include "textflag.h"

// func vfork(flags uintptr, pidfd *int32) (pid, errno uintptr)
//
// clone(2) with our stack for the child too. The child returns first and
// overwrites the stack below its caller's frame, with it our return address;
// so that is kept in a register while we are suspended.
TEXT ·vfork(SB), NOSPLIT|NOFRAME, $0-32
	MOVQ flags+0(FP), DI
	XORL SI, SI            // stack: the same
	MOVQ pidfd+8(FP), DX   // parent_tid: where CLONE_PIDFD puts the descriptor
	XORL R10, R10
	XORL R8, R8
	MOVL $56, AX           // SYS_clone
	POPQ R12
	SYSCALL
	PUSHQ R12
	CMPQ AX, $-4095
	JAE  failed
	MOVQ AX, pid+16(FP)
	MOVQ $0, errno+24(FP)
	RET

failed:
	NEGQ AX
	MOVQ $-1, pid+16(FP)
	MOVQ AX, errno+24(FP)
	RET

// onFault is onSignal for a signal that the runtime uses: it gets what was not sent
// by kill(2), si_code 0, or sigqueue(3), -1.
TEXT ·onFault(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVL 8(SI), AX
	INCL AX
	CMPL AX, $1
	JLS  sent              // unsigned
	MOVQ ·goHandler(SB), AX
	JMP  AX
sent:
	JMP  ·onSignal(SB)

// onSignal is a signal handler, called by the kernel: DI is the signal, SI the
// siginfo_t. It writes the signal, si_code and si_pid to signalPipe.
TEXT ·onSignal(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	SUBQ $24, SP
	MOVL DI, 0(SP)
	MOVL 8(SI), AX
	MOVL AX, 4(SP)
	MOVL 16(SI), AX
	MOVL AX, 8(SP)
	MOVL ·signalPipe(SB), DI
	MOVQ SP, SI
	MOVL $12, DX
	MOVL $1, AX            // SYS_write
	SYSCALL
	ADDQ $24, SP
	RET

// afterSignal is where onSignal returns to.
TEXT ·afterSignal(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVL $15, AX           // SYS_rt_sigreturn
	SYSCALL
	INT  $3

// func handlers() (onSignal, onFault, afterSignal uintptr)
TEXT ·handlers(SB), NOSPLIT, $0-24
	LEAQ ·onSignal(SB), AX
	MOVQ AX, onSignal+0(FP)
	LEAQ ·onFault(SB), AX
	MOVQ AX, onFault+8(FP)
	LEAQ ·afterSignal(SB), AX
	MOVQ AX, afterSignal+16(FP)
	RET
