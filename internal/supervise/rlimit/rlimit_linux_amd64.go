package rlimit

const prlimit64 = 302 // the number of prlimit64(2)
