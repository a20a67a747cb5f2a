/* Breaks nobody_elses: who compares only the inode removes a file that a program
 * that never locks has made its own, by writing into it. */
#define NO_TEXT_CHECK
#define WRITER
#define USERS 1
#define ONLY P_nobody_elses
#include "acquire.pml"
