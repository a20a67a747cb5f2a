/* Breaks whole_text: a file that is linked before it is written can be read empty. */
#define TEXT_AFTER_LINK
#define ONLY P_whole_text
#include "acquire.pml"
