/* Breaks only_ours: a release that compares only the inode removes a file that a program
 * that never locks has made its own, by writing into it. */
#define NO_TEXT_CHECK
#define WRITER
#define USERS 1
#define ONLY P_only_ours
#include "acquire.pml"
