// Test kernels around pieces of attention.cuh and single instructions, so that a test can look at what lies inside.
#include "attention.cuh"
