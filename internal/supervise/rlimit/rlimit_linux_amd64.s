#include "textflag.h"

// func get(limit *[2]uint64) (errno int64)
TEXT ·get(SB), NOSPLIT, $0-16
	XORL DI, DI            // this process
	MOVL $7, SI            // RLIMIT_NOFILE
	XORL DX, DX            // set nothing
	MOVQ limit+0(FP), R10
	MOVL $302, AX          // SYS_prlimit64
	SYSCALL
	MOVQ AX, errno+8(FP)
	RET
