package rlimit

const prlimit64 = 261 // the number of prlimit64(2)
