#include "textflag.h"

// func vfork(flags uintptr, pidfd *int32) (pid, errno uintptr)
//
// clone(2) with our stack for the child too. Our return address is in R30,
// not in memory that the child could overwrite: see fork_linux_amd64.s.
TEXT ·vfork(SB), NOSPLIT|NOFRAME, $0-32
	MOVD flags+0(FP), R0
	MOVD $0, R1            // stack: the same
	MOVD pidfd+8(FP), R2   // parent_tid: where CLONE_PIDFD puts the descriptor
	MOVD $0, R3
	MOVD $0, R4
	MOVD $220, R8          // SYS_clone
	SVC
	CMN  $4095, R0
	BCS  failed
	MOVD R0, pid+16(FP)
	MOVD ZR, errno+24(FP)
	RET

failed:
	NEG  R0, R0
	MOVD $-1, R1
	MOVD R1, pid+16(FP)
	MOVD R0, errno+24(FP)
	RET

// onFault is onSignal for a signal that the runtime uses: it gets what was not sent
// by kill(2), si_code 0, or sigqueue(3), -1.
TEXT ·onFault(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVW 8(R1), R3
	ADDW $1, R3
	CMPW $1, R3
	BLS  sent              // unsigned
	MOVD ·goHandler(SB), R3
	JMP  (R3)
sent:
	JMP  ·onSignal(SB)

// onSignal is a signal handler, called by the kernel: R0 is the signal, R1 the
// siginfo_t. It writes the signal, si_code and si_pid to signalPipe. It returns
// to the kernel's own code in the vDSO.
TEXT ·onSignal(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	SUB  $16, RSP
	MOVW R0, 0(RSP)
	MOVW 8(R1), R2
	MOVW R2, 4(RSP)
	MOVW 16(R1), R2
	MOVW R2, 8(RSP)
	MOVW ·signalPipe(SB), R0
	MOVD RSP, R1
	MOVD $12, R2
	MOVD $64, R8           // SYS_write
	SVC
	ADD  $16, RSP
	RET

// func handlers() (onSignal, onFault, afterSignal uintptr)
TEXT ·handlers(SB), NOSPLIT, $0-24
	MOVD $·onSignal(SB), R0
	MOVD R0, onSignal+0(FP)
	MOVD $·onFault(SB), R0
	MOVD R0, onFault+8(FP)
	MOVD ZR, afterSignal+16(FP)
	RET
